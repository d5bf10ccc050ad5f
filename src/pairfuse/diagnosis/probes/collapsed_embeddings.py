"""Probe `collapsed-embeddings`."""

import torch

from pairfuse.diagnosis.embeddings import embed_items
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject

SPREAD = 1e-3


def collapsed_embeddings(subject: Subject) -> Result:
    """Symptom: the logits of all pairs are nearly the same, and learning is very slow.

    Computation: the root mean square distance of the items' embeddings from their mean, divided by the length of the
    mean.
    Threshold: 1e-3. False alarms: a head that divides the offset out, such as a norm after the fusion.
    """
    spreads = {}
    for name, embeddings in zip(("x1", "x2"), embed_items(subject), strict=True):
        mean = embeddings.mean(0)
        apart = (embeddings - mean).square().sum(1).mean().sqrt()
        spreads[f"spread of the embeddings of {name}"] = float(apart / mean.norm().clamp_min(torch.finfo().tiny))
    if min(spreads.values()) >= SPREAD:
        return OK._replace(evidence=spreads)
    return Result(
        "warn",
        "All items have nearly the same embedding: their differences are a thousandth of its length, or less.",
        spreads,
        "Normalise the inputs to mean 0 and variance 1. Subtract the mean of the embeddings: end the encoder in a "
        "BatchNorm. If training brought it about, lower the learning rate.",
    )

"""Probe `product-geometry`."""

from typing import Any

import torch
from torch import Tensor

from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis.embeddings import embed, owners
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Skip, Subject
from pairfuse.fusions import Fusion, Product
from pairfuse.heads import is_monotone_affine
from pairfuse.xnor import xnor_certificate, xnor_margin

SMALL = 0.005  # at 0.0034 a product took more than 3,000 steps of Adam, at 0.02 some 350
ADVICE = (
    "Centre the embeddings (end the encoder in a LayerNorm or a BatchNorm, not in a ReLU), or put |u - v| beside the "
    "product: [u * v, |u - v|] can always tell two different embeddings apart."
)


def product_geometry(subject: Subject) -> Result:
    """Symptom: a model that multiplies the embeddings learns very slowly, or not at all for some items.

    Computation: for each two items, the exact distance between the same and the different pairs under the fusion, at
    the present embeddings, relative to the size of the features (`xnor_margin`). Threshold: `warn` where more than a
    tenth of the pairs of items cannot be told apart by any linear head, or where half have a relative margin under
    0.005; `fail` where none can be told apart and the encoder is frozen. False alarms: the encoder may still move the
    embeddings.
    """
    if not subject.alike:
        raise Skip("the two sides take different kinds of items")
    fusion, items, linear = _fusion_and_embeddings(subject)
    first, second = torch.triu_indices(len(items), len(items), 1)
    a, b = items[first], items[second]
    different = (a != b).any(1)
    if not different.any():
        raise Skip("all embeddings are the same")
    a, b = a[different], b[different]
    margins = xnor_margin(fusion, a, b, relative=True).detach()
    stuck, typical = int((margins == 0).sum()), float(margins.median())
    evidence: dict[str, Any] = {
        "fusion": type(fusion).__name__,
        "pairs of items": len(margins),
        "not separable": stuck,
        "median relative margin": typical,
        "embeddings that are zero": int((items == 0).all(1).sum()),
    }
    if stuck:
        worst = int((margins == 0).nonzero()[0])
        evidence["certificate"] = str(xnor_certificate(fusion, a[worst], b[worst]))
    if not linear:
        return Result("ok", evidence=evidence)
    if stuck == len(margins) and not _encoder_moves(subject):
        text = "No linear head can tell any two of these items apart, and the encoder is frozen."
        return Result("fail", text, evidence, ADVICE, True)
    if stuck > 0.1 * len(margins):
        text = f"At the present embeddings no linear head can tell {stuck} of {len(margins)} pairs of items apart."
        return Result("warn", text, evidence, ADVICE, True)
    if typical < SMALL:
        text = "The same and the different pairs lie close together, beside their common offset: learning will be slow."
        return Result("warn", text, evidence, ADVICE)
    return OK._replace(evidence=evidence)


def _fusion_and_embeddings(subject: Subject) -> tuple[Fusion, Tensor, bool]:
    """The fusion, the embeddings of all items `(n, D)`, and whether a linear head follows."""
    model = subject.module
    if isinstance(model, SiameseComparator) and subject.call is model:
        if not model.tied:
            raise Skip("the two sides have encoders of their own")
        if model.fusion.xnor == "never":
            raise Skip("the fusion can never tell same from different")
        model.eval()
        with torch.no_grad():
            return model.fusion, model.encode(subject.left).float(), is_monotone_affine(model.head)
    items = subject.left
    rolled = take(items, torch.arange(subject.rows).roll(1))
    found = embed(subject, items, rolled)
    if not found.multiplied:
        raise Skip("the model does not multiply two embeddings")
    u, v = found.u.detach().float(), found.v.detach().float()
    if not torch.allclose(u.roll(1, 0), v, rtol=1e-4, atol=1e-6):
        raise Skip("the two sides have encoders of their own")
    return Product(u.shape[1]), u.cpu(), True


def _encoder_moves(subject: Subject) -> bool:
    """Whether any weight before the embeddings is trained."""
    try:
        left, right = owners(subject)
    except Skip:
        return True
    return any(subject.weights[name][1] for name in left | right)

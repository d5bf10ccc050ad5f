"""Probes of the embeddings: `collapsed-embeddings`, `product-geometry`."""

from typing import Any

import torch
from torch import Tensor

from pairfuse._modes import set_mode
from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.embeddings import embed, owners
from pairfuse.diagnosis.probe import OK, Result, Skip
from pairfuse.diagnosis.sample import take
from pairfuse.fusions import Fusion, Product
from pairfuse.heads import is_monotone_affine
from pairfuse.xnor import xnor_certificate, xnor_margin

SPREAD = 1e-3
SMALL = 0.005  # at 0.0034 a product took more than 3,000 steps of Adam, at 0.02 some 350
ADVICE = (
    "Center the embeddings (end the encoder in a LayerNorm or a BatchNorm, not in a ReLU), or put |u - v| next to the "
    "product: [u * v, |u - v|] can always distinguish two different embeddings."
)


def collapsed_embeddings(context: Context) -> Result:
    """Symptom: the logits of all pairs are nearly the same, and learning is very slow.

    Computation: the root mean square distance of the items' embeddings from their mean, divided by the length of the
    mean.
    Threshold: 1e-3. False alarms: a head that divides the offset out, such as a norm after the fusion.
    """
    found, spreads = embed(context, *context.sample.mixed_pairs()), {}
    for name, embeddings in (("x1", found.u.double()), ("x2", found.v.double())):
        mean = embeddings.mean(0)
        apart = (embeddings - mean).square().sum(1).mean().sqrt()
        spreads[f"spread of the embeddings of {name}"] = float(apart / mean.norm().clamp_min(torch.finfo().tiny))
    if min(spreads.values()) >= SPREAD:
        return OK._replace(evidence=spreads)
    return Result(
        "warn",
        "All items have nearly the same embedding: their differences are a thousandth of its length, or less.",
        spreads,
        "Normalize the inputs to mean 0 and variance 1. Subtract the mean of the embeddings: end the encoder in a "
        "BatchNorm. If training brought it about, lower the learning rate.",
    )


def product_geometry(context: Context) -> Result:
    """Symptom: a model that multiplies the embeddings learns very slowly, or not at all for some items.

    Computation: for each two items, the exact distance between the same and the different pairs under the fusion, at
    the current embeddings, relative to the size of the features (`xnor_margin`). Threshold: `warn` where more than a
    tenth of the pairs of items cannot be distinguished by any linear head, or where half have a relative margin under
    0.005; `fail` where none can be, encoder and fusion do not learn, and the head is seen to be linear. False
    alarms: the encoder may still move the embeddings; a head that is not seen may not be linear.
    """
    fusion, items, head_is_linear = _features(context)
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
    if head_is_linear is False:
        return Result("ok", evidence=evidence)
    if stuck == len(margins) and head_is_linear and not _features_move(context):
        text = "A linear head cannot distinguish any two of these items, and neither encoder nor fusion learns."
        return Result("fail", text, evidence, ADVICE)
    if stuck > 0.1 * len(margins):
        text = f"At the current embeddings a linear head cannot distinguish {stuck} of {len(margins)} pairs of items."
        return Result("warn", text, evidence, ADVICE)
    if typical < SMALL:
        text = "Same and different pairs lie close together compared with their common offset: learning will be slow."
        return Result("warn", text, evidence, ADVICE)
    return OK._replace(evidence=evidence)


def _features(context: Context) -> tuple[Fusion, Tensor, bool | None]:
    """The fusion, the embeddings of all items `(n, D)`, and whether the head is linear; None if it is not seen."""
    model, items = context.runner.module, context.sample.left
    if type(model) is SiameseComparator and context.runner.call is model:
        if not model.tied:
            raise Skip("the two sides have encoders of their own")
        if model.fusion.xnor == "never":
            raise Skip("the fusion declares xnor='never'")
        set_mode(model, False)
        with torch.no_grad():
            return model.fusion, model._fused_size(model.encode(items)).float(), is_monotone_affine(model.head)
    found = embed(context, items, take(items, torch.arange(context.sample.rows).roll(1)))
    if not found.multiplied:
        raise Skip("the model does not multiply two embeddings")
    u, v = found.u.detach().float(), found.v.detach().float()
    if not torch.allclose(u.roll(1, 0), v, rtol=1e-4, atol=1e-6):
        raise Skip("the two sides have encoders of their own")
    return Product(u.shape[1]), u.cpu(), None


def _features_move(context: Context) -> bool:
    """True if any weight of the encoder or the fusion is trained."""
    learned = {name for name, (_, trained) in context.runner.weights.items() if trained}
    try:
        left, right = owners(context)
    except Skip:
        return True
    return any(name in left | right or name.startswith("fusion.") for name in learned)

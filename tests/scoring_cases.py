"""Fusions, heads and ways to compare scores that the tests of scoring share."""

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.fusions import MFB, NTN, Bilinear, Max, PowerNormalized, Stack, Symmetrized

FUSIONS = {
    **{name: name for name in pf.list_fusions()},
    "stack of all": [name for name in pf.list_fusions() if name not in ("symmetric", "infersent", "sbert", "mou")],
    "Symmetrized(NTN)": lambda width: Symmetrized(NTN(width)),
    "Symmetrized(bilinear)": lambda width: Symmetrized(Bilinear(width, 3)),
    "Symmetrized([max, ntn])": lambda width: Symmetrized(Stack([Max(width), NTN(width)])),
    "PowerNormalized": lambda width: PowerNormalized(MFB(width, 4)),
}
HEADS = {
    "linear": lambda f: "linear",
    "mlp": lambda f: "mlp",
    "three logits": lambda f: nn.Linear(f, 3),
    "no bias": lambda f: nn.Linear(f, 1, bias=False),
    "dropout first": lambda f: nn.Sequential(
        nn.Dropout(), nn.Linear(f, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 2)
    ),
    "norm first": lambda f: nn.Sequential(nn.LayerNorm(f), nn.Linear(f, 1)),
    "hidden twice": lambda f: nn.Sequential(
        nn.Linear(f, 4), nn.ReLU(inplace=True), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)
    ),
    "linear twice": lambda f: nn.Sequential(nn.Linear(f, 4, bias=False), nn.Linear(4, 1)),
    "squeezed": lambda f: nn.Sequential(nn.Linear(f, 1), nn.Flatten(0)),
}
each_fusion = pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)


def cross(fusions, heads, fast):
    """Parametrize `fusion` and `head` with every combination; those that `fast(fusion, head)` is False for are slow."""
    return pytest.mark.parametrize(
        ("fusion", "head"),
        [
            pytest.param(FUSIONS[f], HEADS[h], id=f"{f}-{h}", marks=[] if fast(f, h) else [pytest.mark.slow])
            for f in fusions
            for h in heads
        ],
    )


# A product, a product with a distance, and one without a fast path meet every head.
each_fusion_and_head = cross(
    FUSIONS, HEADS, lambda f, h: h in ("linear", "mlp") or f in ("product", "symmetric", "ntn")
)


def build(fusion, head, width, dtype=torch.float64):
    """A comparator in eval mode whose every parameter counts."""
    torch.manual_seed(0)
    spec = fusion(width) if callable(fusion) else pf.make_fusion(fusion, width)
    model = pf.SiameseComparator(nn.Identity(), spec, head(spec.out_features), embedding_dim=width, allow_additive=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.to(dtype).eval()


def paired(model, u, v):
    """`forward` on every pair, one after the other."""
    logits = model.head(model.fusion(u.repeat_interleave(len(v), 0), v.repeat(len(u), 1)))
    logits = logits.view(len(u), len(v), -1)
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_equal(found, due, tolerance):
    assert found.shape == due.shape
    assert (found - due).abs().max() <= tolerance * due.abs().max().clamp(min=0.1)


def least_budget(model, u, v):
    """The smallest budget that is accepted, as the error tells it."""
    with torch.no_grad(), pytest.raises(ValueError, match="is too small for a single pair") as error:
        model.score_embeddings(u, v, max_bytes=1)
    return int(str(error.value).rpartition(" ")[2])

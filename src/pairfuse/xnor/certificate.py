"""A certificate with its proof: a separating head, or a common point."""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Certificate:
    """A proof that one linear layer can, or cannot, tell the same pairs from the different pairs of n embeddings.

    If it can, `weight` and `bias` are such a layer. If it cannot, `same` and `different` average the features of the
    same pairs and of the different pairs to the same point, and no linear layer gives that point two signs. Each proof
    is verified before the certificate is made. [`xnor_certificate`][pairfuse.xnor.xnor_certificate] and
    [`class_certificate`][pairfuse.xnor.class_certificate] return certificates.

    Attributes:
        margin: The gap between the same and the different pairs, in [0, ∞); 0.0 iff they are not separable.
        weight: The weight of a separating head, `(F,)`, float64; or None.
        bias: Its bias, `()`: the logits are above 0 for every same pair, below 0 for every different pair; or None.
        same: The shares of the same pairs in the common point, `(n, n)`, at least 0, with sum 1; or None.
        different: The shares of the different pairs, likewise; or None.
        error: The largest difference between the two averages in any feature, due to rounding; 0.0 if there are none.
    """

    margin: float
    weight: Tensor | None = None
    bias: Tensor | None = None
    same: Tensor | None = None
    different: Tensor | None = None
    error: float = 0.0

    @property
    def separable(self) -> bool:
        """True if a linear layer can tell same from different."""
        return self.weight is not None

    def scaled(self, scale: Tensor) -> "Certificate":
        """Return the certificate for features that are `scale` times as large."""
        bias = None if self.bias is None else self.bias * scale
        return replace(self, margin=self.margin * scale.item(), bias=bias, error=self.error * scale.item())

    def __str__(self) -> str:
        if self.weight is not None and self.bias is not None:
            weight = ", ".join(f"{value:.4g}" for value in self.weight[:8].tolist())
            more = ", ..." if len(self.weight) > 8 else ""
            return f"separable, margin {self.margin:.4g}: weight [{weight}{more}], bias {self.bias.item():.4g}"
        return f"not separable: {_mixture(self.same)} = {_mixture(self.different)}"


def prove_separable(features: Tensor, is_same: Tensor, weight: Tensor) -> Certificate | None:
    """Return the certificate of a weight if it separates the pairs in exact arithmetic, else None.

    Args:
        features: The features of every pair, `(n, n, F)`, in float64.
        is_same: True for the same pairs, `(n, n)`.
        weight: `(F,)`.
    """
    logits = features @ weight
    low, high = logits[is_same].min(), logits[~is_same].max()
    bias = -(low + high) / 2
    if low > high and _separates(features, is_same, weight, bias):
        return Certificate((low - high).item(), weight=weight, bias=bias)
    return None


def prove_common_point(features: Tensor, same: Tensor, different: Tensor, tolerance: float) -> Certificate | None:
    """Return the certificate of two averages if they agree within a tolerance in every feature, else None."""
    point, other = (torch.einsum("ij,ijf->f", shares, features) for shares in (same, different))
    error = (point - other).abs().max().item()
    return Certificate(0.0, same=same, different=different, error=error) if error <= tolerance else None


def _separates(features: Tensor, is_same: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """True if the signs of all logits are right in exact arithmetic.

    A rounding bound settles most of them. The others are computed in fractions.
    """
    logits = features @ weight + bias
    unit_roundoff = torch.finfo(torch.float64).eps / 2
    size = features.abs() @ weight.abs() + bias.abs()
    settled = logits.abs() > 2 * (len(weight) + 2) * unit_roundoff * size
    if not torch.equal((logits > 0)[settled], is_same[settled]):
        return False
    exact_weight = [Fraction(w) for w in weight.tolist()]
    for row, same in zip(features[~settled].tolist(), is_same[~settled].tolist(), strict=True):
        logit = Fraction(bias.item()) + sum(w * Fraction(x) for w, x in zip(exact_weight, row, strict=True))
        if logit == 0 or (logit > 0) != same:
            return False
    return True


def _mixture(shares: Tensor | None) -> str:
    if shares is None:
        return ""
    terms = [f"{shares[i, j]:.4g} f({_letter(i)}, {_letter(j)})" for i, j in shares.nonzero().tolist()]
    return " + ".join(terms[:6]) + (" + ..." if len(terms) > 6 else "")


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"#{index}"

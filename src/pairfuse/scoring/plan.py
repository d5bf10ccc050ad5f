"""How the pairs of one fusion and head are scored: what is done once an item, and what once a pair."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_logits
from pairfuse.fusions import Fusion
from pairfuse.fusions.factors import SMALL, Factors, join_factors, linear, score_pairs
from pairfuse.heads import is_linear, split_head
from pairfuse.items.batches import expand_pairs


class Plan(nn.Module):
    """The logits of all pairs of two tiles of embeddings.

    The first linear layer of the head goes through the algebra of the fusion: parts that have factors are joined, so
    that the layer is one matrix product; the others score their pairs by themselves. Where the head does not begin with
    a linear layer, or where a hook or a patched method alters it or the fusion, both are called on every pair.

    Args:
        fusion: The fusion.
        head: The head.
        origin: A point near the embeddings, around which differences and squares are computed.
        split: Whether to take the head apart at all.
    """

    def __init__(self, fusion: Fusion, head: nn.Module, origin: Tensor | None, *, split: bool = True) -> None:
        super().__init__()
        parts = split_head(head) if split and not (is_altered(fusion) or is_altered(head)) else None
        self.fusion = fusion if origin is None or parts is None else fusion.centred(origin)
        self.head = head
        self.weight: Tensor | None = None if parts is None else parts.weight
        self.bias: Tensor | None = None if parts is None else parts.bias
        terms = [] if parts is None else self.fusion.terms(parts.weight)
        self.slow = [(part, weight) for part, weight in terms if not part.fast_path]
        fast = [(part, weight) for part, weight in terms if part.fast_path]
        # Of a part with fewer features than the layer has outputs the features are scored, and then the layer.
        self.narrow = [(part, weight) for part, weight in fast if part.out_features < len(weight)]
        self.wide = [(part, weight) for part, weight in fast if part.out_features >= len(weight)]
        layers = [] if parts is None else parts.rest
        self.last: nn.Linear | None = None
        if layers and is_linear(layers[-1]) and layers[-1].out_features <= SMALL:
            self.last = layers[-1]
        self.rest = nn.Sequential(*(layers if self.last is None else layers[:-1]))

    @property
    def has_layers(self) -> bool:
        """Whether anything comes after the first linear layer."""
        return len(self.rest) > 0 or self.last is not None

    def factors(self, u: Tensor, v: Tensor) -> list[Factors]:
        """What is computed once for each item: of all wide parts together with the bias, then of each narrow one."""
        parts = [part.checked_factors(u, v, weight) for part, weight in self.wide]
        if parts and self.bias is not None:
            nothing = u.new_empty(len(self.bias), len(u), 0), v.new_empty(1, len(v), 0)
            parts.append(Factors(*nothing, self.bias.expand(len(u), -1)))
        narrow = [part.checked_factors(u, v, torch.eye(part.out_features).to(u)) for part, _ in self.narrow]
        return [join_factors(parts), *narrow] if parts else narrow

    @override
    def forward(self, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor:
        """The logits of all pairs of `(n, D)` and `(m, D2)`, whose factors are given: `(n, m, K)`."""
        if self.weight is None:
            return self._table(self.head(self.fusion(*expand_pairs(u, v)).flatten(0, 1)), len(u), len(v))
        scores = [part.score_all(u, v, weight) for part, weight in self.slow]
        if self.wide:
            scores.append(score_pairs(factors[0]))
        elif self.bias is not None:
            scores.append(self.bias.expand(len(u), len(v), -1))
        for features, (_, weight) in zip(factors[len(factors) - len(self.narrow) :], self.narrow, strict=True):
            scores.append(linear(score_pairs(features), weight))
        hidden = sum(scores[1:], start=scores[0])  # (n, m, H)
        if not self.has_layers:
            return hidden
        rows = self.rest(hidden.flatten(0, 1))  # (n · m, ...)
        if self.last is not None:
            bias: Any = 0 if self.last.bias is None else self.last.bias
            rows = linear(rows, self.last.weight) + bias
        return self._table(rows, len(u), len(v))

    def outputs(self) -> int:
        """How many logits a pair has, as far as the layers tell."""
        return [self.fusion.out_features, *_widths(self.head)][-1]

    def numbers(self) -> int:
        """About how many numbers a tile holds for each pair."""
        if self.weight is None:
            return self.fusion.numbers_to_fuse() + 2 * max([self.fusion.out_features, *_widths(self.head)])
        outputs, widths = len(self.weight), _widths(self.rest)
        of_slow = sum(part.numbers_per_pair(outputs) + outputs for part, _ in self.slow)
        of_narrow = sum(part.out_features + outputs for part, _ in self.narrow)
        return outputs + of_slow + of_narrow + (2 * max([outputs, *widths]) if self.has_layers else 0)

    def fused_numbers(self) -> int:
        """The same for one compiled kernel, which keeps nothing between layers but what a matrix product gives."""
        hidden = len(_widths(self.rest)) > 0
        products = any(not part.additive for part, _ in self.wide)
        if (
            self.weight is None
            or self.slow
            or self.narrow
            or hidden
            or (self.has_layers and (self.last is None or products))
        ):
            return self.numbers()
        return 2 * (len(self.weight) if self.last is None else self.last.out_features)

    def _table(self, logits: Tensor, rows: int, columns: int) -> Tensor:
        """The logits `(n · m, K)` of a head, or `(n · m,)`, as `(n, m, K)`."""
        check_logits(logits, rows * columns)
        return logits.reshape(rows, columns, 1 if logits.ndim == 1 else logits.shape[1])


def _widths(module: nn.Module) -> list[int]:
    return [layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear)]


def is_altered(module: nn.Module) -> bool:
    """Whether hooks or a patched method make a call do other than the class says: then the module must be called."""
    return any(
        m._forward_hooks
        or m._forward_pre_hooks
        or m._backward_hooks
        or m._backward_pre_hooks
        or {"fuse", "forward"} & vars(m).keys()
        for m in module.modules()
    )

"""Joining factors: scores that are sums of products are one product of longer rows."""

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor]  # (K, N, R) and (K or 1, M, R)


def sum_factors(left: Tensor, right: Tensor) -> Factors:
    """Factors of the scores `left[i] + right[j]`, from `(N, K)` and `(M, K)`."""
    left, right = left.mT, right.mT  # (K, N), (K, M)
    return torch.stack([left, torch.ones_like(left)], -1), torch.stack([torch.ones_like(right), right], -1)


def join_factors(parts: list[Factors]) -> Factors:
    """Factors of the sum of several scores: the lefts side by side, and the rights."""
    size = max(len(right) for _, right in parts)
    return (
        torch.cat([left for left, _ in parts], -1),
        torch.cat([right.expand(size, -1, -1) for _, right in parts], -1),
    )


def add_constant(factors: Factors, constant: Tensor) -> Factors:
    """Factors of the scores plus a constant for each of the K outputs."""
    left, right = factors
    column = constant[:, None, None].expand(-1, left.shape[1], 1)
    return torch.cat([left, column], -1), torch.cat([right, torch.ones_like(right[..., :1])], -1)

"""Separability of four points by an independent linear program."""

import numpy as np
import pytest

linprog = pytest.importorskip("scipy.optimize").linprog


def separable_by_linear_program(same: np.ndarray, different: np.ndarray) -> bool:
    """Whether w · x + c ≥ 1 for all same points and ≤ −1 for all different ones has a solution."""
    points = np.concatenate([-same, different])
    scale = np.abs(points).max() or 1.0
    constant = np.concatenate([-np.ones(len(same)), np.ones(len(different))])
    solution = linprog(
        c=np.zeros(points.shape[1] + 1),
        A_ub=np.column_stack([points / scale, constant]),
        b_ub=-np.ones(len(points)),
        bounds=[(None, None)] * (points.shape[1] + 1),
        method="highs",
    )
    assert solution.status in (0, 2), solution.message
    return solution.status == 0


def widest_gap(same: np.ndarray, different: np.ndarray) -> float:
    """The widest gap between the logits of both kinds, over all weights in [−1, 1]; 0 if none is above 0.

    As the distance of the two hulls in the 1-norm: the least Σ r over mixtures p, q of either kind with |p − q| ≤ r.
    """
    n, m, width = len(same), len(different), same.shape[1]
    inside = np.hstack([same.T, -different.T])
    solution = linprog(
        c=np.concatenate([np.zeros(n + m), np.ones(width)]),
        A_ub=np.vstack([np.hstack([inside, -np.eye(width)]), np.hstack([-inside, -np.eye(width)])]),
        b_ub=np.zeros(2 * width),
        A_eq=np.vstack([np.r_[np.ones(n), np.zeros(m + width)], np.r_[np.zeros(n), np.ones(m), np.zeros(width)]]),
        b_eq=np.ones(2),
        method="highs",
    )
    assert solution.status == 0, solution.message
    return float(solution.fun)

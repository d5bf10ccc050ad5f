"""Separability of four points by an independent linear program."""

import numpy as np
from scipy.optimize import linprog


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

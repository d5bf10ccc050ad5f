"""What was solved, and how good it is on held-out identities."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SolvedHead:
    """What `solve_head` did. `print(report)` shows it.

    Attributes:
        fusion: The class of the fusion.
        method: `"least squares over all pairs"`, `"two-covariance model"`, or `"logistic regression on drawn pairs"`.
        items: Number of labeled items.
        identities: Number of identities.
        same_pairs: Number of same pairs, each counted once.
        different_pairs: Number of different pairs, each counted once.
        features: Number of fused features F; for the two-covariance model the width D.
        shrinkage: 0 is the solution itself, 1 the unlearned comparison: an inner product, a distance or a cosine.
        kept: True if the fusion is as it was built, and only scale and bias of the head are new.
        condition: Condition of the linear system with this shrinkage; of the covariance within identities for the
            two-covariance model.
        auc: Area under the ROC curve on identities held out from solving; NaN if there were too few.
        unlearned_auc: The same of the unlearned comparison.
        gain_error: Standard error of the difference of the two, over identities.
        path: The shrinkages that were tried, with the area of each.
        same_prior: Share of same pairs for which the probabilities are.
        remarks: What to know about it, in sentences.
    """

    fusion: str
    method: str
    items: int
    identities: int
    same_pairs: int
    different_pairs: int
    features: int
    shrinkage: float
    kept: bool
    condition: float
    auc: float
    unlearned_auc: float
    gain_error: float
    path: tuple[tuple[float, float], ...]
    same_prior: float
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as a table for people."""
        rows = [
            ("solved", f"{self.fusion}, {self.method}"),
            ("pairs", f"{self.same_pairs:,} same and {self.different_pairs:,} different ones"),
            ("", f"of {self.items:,} items of {self.identities:,} identities"),
            ("features", f"{self.features:,}, condition {self.condition:.2g}"),
            ("shrinkage", f"{self.shrinkage:g} ({self._in_words()})"),
            ("probabilities", f"for a share of {self.same_prior:g} same pairs"),
        ]
        if not math.isnan(self.auc):
            rows.append(("held-out AUC", f"{self.auc:.4f}"))
            rows.append(("unlearned", f"{self.unlearned_auc:.4f}, difference ± {self.gain_error:.4f}"))
        lines = [f"{name:<14}{text}" for name, text in rows]
        return "\n".join([*lines, *self.remarks])

    def _in_words(self) -> str:
        if self.kept or self.shrinkage == 1:
            return "the unlearned comparison, calibrated" if self.kept else "spherical covariances"
        return "0 is the solution itself, 1 the unlearned comparison"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers and strings, for JSON."""
        return asdict(self)

"""Bounds that no additive model can beat."""

import math
from dataclasses import dataclass

from pairfuse._checks import check_int


@dataclass(frozen=True)
class AdditiveBounds:
    """The best that an additive model can reach; [`additive_bounds`][pairfuse.xnor.additive_bounds] computes it.

    Attributes:
        accuracy: The highest accuracy, in [½, 1].
        bce: The lowest binary cross-entropy, in nats.
        mse: A lower bound of the squared error of probabilities, the sigmoid of the sums. It is tight for two classes,
            or if at least half of the pairs are the same.
        linear_mse: The lowest squared error of the sums themselves.
    """

    accuracy: float
    bce: float
    mse: float
    linear_mse: float


def additive_bounds(num_classes: int, prior: float = 0.5) -> AdditiveBounds:
    r"""Return the best accuracy, cross-entropy and squared error of an additive model on "same class or not".

    The logits are `a_i + b_j` for items i, j from k equally frequent classes, and a share π of the pairs is the same.
    All same pairs (i, i) have equal weight, π / k each, and all different pairs, (1 − π) / (k (k − 1)) each. A model
    whose loss stays at these bounds may be additive. A model whose loss is lower on such pairs is not.

    - **Accuracy.** Let the model predict "same" for m of the k same pairs. For any two of these,
      ℓ_ij + ℓ_ji = ℓ_ii + ℓ_jj > 0, so at least one of (i, j), (j, i) is wrongly predicted as the same. These are at
      least m (m − 1) / 2 errors among the k (k − 1) different pairs. The accuracy is at most
      π m / k + (1 − π) (1 − m (m − 1) / (2 k (k − 1))). It is reached by a_i = −i, b_j = j + ½ for these m, −∞ for the
      others. The bound is its maximum over m.
    - **Cross-entropy** is convex in the logits, and the pairs are the same after any renaming of the classes. So the
      average of a best model over all renamings is a best model too. Its logits are one constant on the same pairs and
      one on the different pairs, and these are equal since ℓ_ii + ℓ_jj = ℓ_ij + ℓ_ji. The best constant is the logit of
      π, and the bound is the entropy H(π).
    - **Squared error of the sums** is convex too. The best constant is π, and the bound is π (1 − π).
    - **Squared error through a sigmoid** is not convex. For two classes and a balanced prior its infimum is ¼: the four
      squared errors sum to at least 1. Weighted, they are at least min(π, 1 − π) / 2, and every set of pairs is an
      average of such quartets. For two classes or π ≥ ½ the bound is reached in the limit, by three right answers of
      four or by the ordering above. Otherwise it may not be reached.

    These bounds do not hold for unequal class frequencies, since then one item alone is informative about "same". They
    do not hold for a training set without all pairs either: free a_i, b_j for many items can memorize some of them.

    Args:
        num_classes: Number k of classes, at least 2.
        prior: The share π of same pairs, in (0, 1).

    Returns:
        The four bounds.

    Raises:
        TypeError: `num_classes` is not an int.
        ValueError: There are fewer than two classes, or the prior is not inside (0, 1).

    References:
        Minsky and Papert, *Perceptrons*, MIT Press, 1969, for two classes.

    Examples:
        >>> import pairfuse as pf
        >>> pf.xnor.additive_bounds(2)
        AdditiveBounds(accuracy=0.75, bce=0.6931471805599453, mse=0.25, linear_mse=0.25)
    """
    k = check_int("additive_bounds", "num_classes", num_classes, least=2)
    if isinstance(prior, bool) or not isinstance(prior, (int, float)) or not 0 < prior < 1:
        raise ValueError(f"additive_bounds expects prior, the share of same pairs, inside (0, 1), got {prior!r}")
    return AdditiveBounds(
        accuracy=max(prior * m / k + (1 - prior) * (1 - m * (m - 1) / (2 * k * (k - 1))) for m in range(k + 1)),
        bce=-prior * math.log(prior) - (1 - prior) * math.log(1 - prior),
        mse=min(prior, 1 - prior) / 2,
        linear_mse=prior * (1 - prior),
    )

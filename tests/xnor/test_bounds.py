"""The bounds of additive models, against exhaustive search and optimization."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pairfuse.testing.strategies import GRID
from pairfuse.xnor import additive_bounds

PRIORS = [0.1, 0.3, 0.5, 0.7, 0.9]
each_prior = pytest.mark.parametrize("prior", PRIORS)


def weights(k: int, prior: float) -> torch.Tensor:
    """The weight of each pair of k classes, (k, k)."""
    eye = torch.eye(k, dtype=torch.float64)
    return eye * prior / k + (1 - eye) * (1 - prior) / (k * (k - 1))


@each_prior
@pytest.mark.parametrize("k", [2, 3, 4])
def test_accuracy_is_that_of_the_best_answer_of_any_sum(k, prior):
    """A table of answers is a sum under a threshold iff its rows, as sets, form a chain: all such tables are tried."""
    weight, best = weights(k, prior).tolist(), 0.0
    for rows in itertools.product(range(2**k), repeat=k):
        chain = sorted(rows, key=int.bit_count)
        if all(small & large == small for small, large in itertools.pairwise(chain)):
            right = sum(weight[i][j] for i in range(k) for j in range(k) if (rows[i] >> j & 1) == (i == j))
            best = max(best, right)
    assert additive_bounds(k, prior).accuracy == pytest.approx(best)


def minimize(loss, k: int, restarts: int = 20) -> float:
    """The lowest loss of sums a_i + b_j that gradient descent finds from many starts, all at once."""
    generator = torch.Generator().manual_seed(0)
    effects = (4 * torch.randn(2, restarts, k, dtype=torch.float64, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([effects], lr=0.3)
    for _ in range(400):
        values = loss(effects[0][:, :, None] + effects[1][:, None])  # (restarts, k, k) → (restarts,)
        optimizer.zero_grad()
        values.sum().backward()
        optimizer.step()
    return values.min().item()


@each_prior
@pytest.mark.parametrize("k", [2, 3, 5])
def test_losses_are_reached_and_not_passed(k, prior):
    """The best sum that gradient descent finds is at the bound; of the sigmoid's square, for two classes."""
    bounds, weight, same = additive_bounds(k, prior), weights(k, prior), torch.eye(k, dtype=torch.float64)

    def entropy(x):
        each = torch.nn.functional.binary_cross_entropy_with_logits(x, same.expand_as(x), reduction="none")
        return (weight * each).sum((1, 2))

    assert minimize(entropy, k, 3) == pytest.approx(bounds.bce, abs=1e-4)
    assert minimize(lambda x: (weight * (x - same) ** 2).sum((1, 2)), k, 3) == pytest.approx(
        bounds.linear_mse, abs=1e-4
    )
    squares = minimize(lambda x: (weight * (x.sigmoid() - same) ** 2).sum((1, 2)), k)
    assert squares >= bounds.mse - 1e-9
    if k == 2:
        assert squares == pytest.approx(bounds.mse, abs=5e-3)


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("prior", [0.5, 0.7, 0.9])
def test_the_square_is_reached_by_the_ordering(k, prior):
    """For π ≥ ½: a_i = −i, b_j = j + ½, made steep, calls i ≤ j the same."""
    order = torch.arange(k, dtype=torch.float64)
    logits = 1000 * (order - order[:, None] + 0.5)
    loss = (weights(k, prior) * (logits.sigmoid() - torch.eye(k)) ** 2).sum().item()
    assert loss == pytest.approx(additive_bounds(k, prior).mse)


@given(k=st.integers(2, 5), data=st.data(), prior=st.sampled_from(PRIORS))
def test_no_sum_is_below_the_bounds(k, data, prior):
    a, b = (torch.tensor(data.draw(st.lists(GRID, min_size=k, max_size=k))).double() for _ in range(2))
    logits, same, weight = a[:, None] + b, torch.eye(k).double(), weights(k, prior)
    bounds = additive_bounds(k, prior)
    assert (weight * ((logits > 0) == same.bool())).sum() <= bounds.accuracy + 1e-12
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, same, weight, reduction="sum")
    assert entropy >= bounds.bce - 1e-12
    assert (weight * (logits.sigmoid() - same) ** 2).sum() >= bounds.mse - 1e-12
    assert (weight * (logits - same) ** 2).sum() >= bounds.linear_mse - 1e-12


def test_the_founding_question():
    bounds = additive_bounds(2)
    assert (bounds.accuracy, bounds.mse, bounds.linear_mse) == (0.75, 0.25, 0.25)
    assert bounds.bce == pytest.approx(math.log(2))


@pytest.mark.parametrize("k", [2, 5, 100])
def test_balanced_accuracy_is_three_quarters_for_any_number_of_classes(k):
    assert additive_bounds(k).accuracy == pytest.approx(0.75)


@pytest.mark.parametrize("prior", [0, 1, -0.1, 1.5, float("nan")])
def test_prior_is_a_share(prior):
    with pytest.raises(ValueError, match=r"expects prior, the share of same pairs, inside \(0, 1\), got"):
        additive_bounds(2, prior)


@pytest.mark.parametrize(("k", "error"), [(1, ValueError), (0, ValueError), (2.0, TypeError)])
def test_two_classes_or_more(k, error):
    with pytest.raises(error, match="additive_bounds expects num_classes to be"):
        additive_bounds(k)

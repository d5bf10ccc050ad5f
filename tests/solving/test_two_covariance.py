"""The two-covariance model: its covariances and its log-likelihood ratio."""

import torch
from torch import nn
from torch.distributions import MultivariateNormal

import pairfuse as pf
from pairfuse.solving.two_covariance import TwoCovarianceMethod, log_likelihood_ratio, towards_identity

WITHIN = torch.tensor([[0.5, 0.2], [0.2, 0.9]], dtype=torch.float64)
BETWEEN = torch.tensor([[1.5, -0.4], [-0.4, 0.7]], dtype=torch.float64)


def draw(identities, most):
    sizes = torch.arange(identities) % most + 1
    labels = torch.arange(identities).repeat_interleave(sizes)
    means = MultivariateNormal(torch.tensor([3.0, -5.0]).double(), BETWEEN).sample((identities,))
    return means[labels] + MultivariateNormal(torch.zeros(2).double(), WITHIN).sample((len(labels),)), labels


def test_covariances_are_found():
    """Identities of several sizes, far from 0: neither the noise of the means nor the offset goes into `between`."""
    method = TwoCovarianceMethod(1.0, torch.tensor([2.0, -4.0]).double())
    scatter = method.read(*draw(20_000, 3))
    mean, within, between = scatter.covariances()
    torch.testing.assert_close(mean + method.origin, torch.tensor([3.0, -5.0]).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(within, WITHIN, rtol=0, atol=0.04)
    torch.testing.assert_close(between, BETWEEN, rtol=0, atol=0.06)


def test_the_ratio_is_that_of_the_normal_densities():
    """log p(u, v | same) − log p(u) − log p(v), for any pair."""
    p, q, constant = log_likelihood_ratio(WITHIN, BETWEEN)
    u, v = torch.randn(2, 50, 2, dtype=torch.float64)
    total = WITHIN + BETWEEN
    joint = torch.cat([torch.cat([total, BETWEEN], 1), torch.cat([BETWEEN, total], 1)])
    zeros = torch.zeros(4, dtype=torch.float64)
    expected = MultivariateNormal(zeros, joint).log_prob(torch.cat([u, v], 1))
    for x in (u, v):
        expected = expected - MultivariateNormal(zeros[:2], total).log_prob(x)
    found = ((u @ p) * v).sum(1) + ((u @ q) * u).sum(1) / 2 + ((v @ q) * v).sum(1) / 2 + constant
    torch.testing.assert_close(found, expected)


def test_shrinkage_keeps_the_trace():
    shrunk = towards_identity(WITHIN, 0.25)
    torch.testing.assert_close(shrunk.trace(), WITHIN.trace())
    torch.testing.assert_close(shrunk[0, 1], 0.75 * WITHIN[0, 1])
    torch.testing.assert_close(towards_identity(WITHIN, 1.0), 0.7 * torch.eye(2).double())


def test_a_solved_comparator_gives_the_ratio():
    """If the model holds, the logits are the log-likelihood ratios."""
    items, labels = draw(4000, 3)
    model = pf.SiameseComparator(nn.Identity(), "quadratic", embedding_dim=2).double()
    model.solve_head(items, labels, shrinkage=0)
    p, q, constant = log_likelihood_ratio(WITHIN, BETWEEN)
    x = items[:50] - torch.tensor([3.0, -5.0]).double()
    own = ((x @ q) * x).sum(1) / 2
    expected = x @ p @ x.T + own[:, None] + own + constant
    found = model.score_matrix(items[:50], items[:50])
    slope = float(
        ((found - found.mean()) * (expected - expected.mean())).sum() / (expected - expected.mean()).square().sum()
    )
    assert abs(slope - 1) < 0.15
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.995


def test_a_state_from_before_the_center_is_loaded():
    model = pf.fusions.Quadratic(3)
    state = model.state_dict()
    del state["center"]
    model.center.fill_(1)
    model.load_state_dict(state)
    assert not bool(model.center.any())

"""Memory is measured: of fusions that nobody declared anything about, and exactly."""

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.scoring import Scorer
from pairfuse.scoring.footprint import Footprint, _Memory, measure, watch
from pairfuse.scoring.plan import Plan


class Outer(pf.Fusion):
    """A user's fusion with a large intermediate: D² numbers a pair."""

    symmetry, additive, xnor = "none", False, "always"

    def fuse(self, u, v):
        table = (u[..., :, None] * v[..., None, :]).tanh()
        return table.sum(-1)


def measured(fusion, head, width=16):
    return measure(Plan(fusion, head, None), torch.empty(0, width), torch.empty(0, width))


def test_the_peak_counts_what_is_alive_at_once():
    def work():
        a = torch.ones(1000)  # 4000 bytes
        b = a + 1  # 8000
        del a
        c = b.view(10, 100) * 2  # 8000, since the view is no memory of its own
        return c[0]

    assert max(watch(work)[1]) == 8000
    with _Memory() as memory:
        kept = work()
        assert memory.now == 4000
        del kept
        assert memory.now == 0


def test_what_a_fusion_of_ones_own_holds_is_seen():
    """A pair of width 16: two tables of 256 floats at once, and some rows."""
    tile = measured(Outer(16), nn.Linear(16, 1))[1]
    assert 2 * 4 * 256 <= tile.pair <= 2 * 4 * 256 + 4 * 4 * 16


def test_one_matrix_product_holds_only_the_scores():
    assert measured(pf.fusions.Product(16), nn.Linear(16, 1))[1] == Footprint(0, 0, 0, 4)


@pytest.mark.parametrize("name", ["abs-diff", "max", "min", "symmetric", "sbert"])
def test_distances_hold_no_number_for_each_coordinate(name):
    """The city-block kernel is used, also in a stack: some numbers a pair, not 64 of them."""
    fusion = pf.make_fusion(name, 64)
    assert 2 * 4 <= measured(fusion, nn.Linear(fusion.out_features, 1), 64)[1].pair <= 5 * 4


def test_a_budget_holds_for_a_fusion_of_ones_own():
    """The tensors alive while blocks are made, those of the measuring included, fit the budget."""
    u, v = torch.randn(64, 32), torch.randn(64, 32)
    fusion, head = Outer(32).requires_grad_(False), nn.Linear(32, 1).requires_grad_(False)
    for budget in (2**19, 2**21):
        with _Memory() as memory:
            for _ in Scorer(fusion, head, u, v, max_bytes=budget).blocks():
                pass
        assert 0.1 * budget <= memory.peak <= budget


def test_measuring_leaves_statistics_hooks_and_random_states_alone():
    """It runs a copy in eval mode, without hooks."""
    torch.manual_seed(0)
    calls = []
    head = nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))
    head[0].register_forward_hook(lambda *_: calls.append(1))
    before = torch.get_rng_state()
    measured(Outer(16), head)
    assert torch.equal(torch.get_rng_state(), before)
    assert head[1].num_batches_tracked == 0
    assert head.training
    assert calls == []


def test_models_of_one_kind_are_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(Outer, "fuse", lambda self, u, v: (calls.append(1), u * v)[1])
    for _ in range(3):
        measured(Outer(24), nn.Linear(24, 7), 24)
    assert len(calls) == 4

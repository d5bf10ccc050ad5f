"""The moments of all processes together are those of one: `python -m tests.solving.moments_across_processes`."""

import sys
import tempfile

import torch
from torch import distributed, multiprocessing

import pairfuse as pf
from pairfuse.solving import pair_moments
from pairfuse.solving.terms import TermPlan

WORLD = 3


def compare(rank, where):
    distributed.init_process_group("gloo", init_method=f"file://{where}/store", rank=rank, world_size=WORLD)
    torch.manual_seed(0)
    labels = torch.randint(-1, 12, (80,))
    items = torch.randn(80, 4, dtype=torch.float64)
    fusions = [pf.make_fusion(spec, 4) for spec in ("product", ["squared-diff", "concat"], "quadratic", "mfb")]
    for fusion in fusions:
        plan = TermPlan(fusion, items.mean(0))
        mine = labels % WORLD == rank  # whole identities
        together = pair_moments(fusion, items[mine], labels[mine], plan=plan).all_reduce()
        alone = pair_moments(fusion, items, labels, plan=plan)
        for name in ("all_pairs", "same_pairs", "different_pairs"):
            ours, expected = getattr(together, name), getattr(alone, name)
            assert ours.pairs == expected.pairs
            torch.testing.assert_close(ours.mean, expected.mean, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(ours.gram, expected.gram, rtol=1e-12, atol=1e-12)
    distributed.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        multiprocessing.spawn(compare, (where,), nprocs=WORLD)
    sys.exit(0)

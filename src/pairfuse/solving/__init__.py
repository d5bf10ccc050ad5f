"""Solving: the statistics of all pairs from sums over items, and heads that are solved from them."""

from pairfuse.solving.moments import PairMoments, Statistics, pair_moments
from pairfuse.solving.report import SolvedHead

__all__ = ["PairMoments", "SolvedHead", "Statistics", "pair_moments"]

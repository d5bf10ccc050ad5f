"""Scores of all pairs by the learned head: as a matrix, in blocks, the k best, or as inner products."""

from pairfuse.scoring.blocks import MAX_BYTES, ScoreBlock, Scorer
from pairfuse.scoring.inner_product import InnerProductForm, inner_product_form
from pairfuse.scoring.matches import MAX_MATCHES, Matches, find_matches, iterate_matches
from pairfuse.scoring.topk import TopK, check_scores, top_k

__all__ = [
    "MAX_BYTES",
    "MAX_MATCHES",
    "InnerProductForm",
    "Matches",
    "ScoreBlock",
    "Scorer",
    "TopK",
    "check_scores",
    "find_matches",
    "inner_product_form",
    "iterate_matches",
    "top_k",
]

"""Scores of all pairs by the learned head: as a matrix, in blocks, the k best, or as inner products."""

from pairfuse.scoring.blocks import MAX_BYTES, ScoreBlock, Scorer
from pairfuse.scoring.inner_product import InnerProductForm, inner_product_form
from pairfuse.scoring.topk import TopK, check_scores, top_k

__all__ = [
    "MAX_BYTES",
    "InnerProductForm",
    "ScoreBlock",
    "Scorer",
    "TopK",
    "check_scores",
    "inner_product_form",
    "top_k",
]

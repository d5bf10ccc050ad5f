"""Evaluation: how well a comparator tells same from different, with honest intervals, and at which threshold."""

from pairfuse.decisions import Calibration, Decision, Estimate, Isotonic, Platt
from pairfuse.evaluation.evaluate import evaluate, evaluate_folds, evaluate_pairs, evaluate_scores
from pairfuse.evaluation.report import Report
from pairfuse.evaluation.search import SearchReport, evaluate_search

__all__ = [
    "Calibration",
    "Decision",
    "Estimate",
    "Isotonic",
    "Platt",
    "Report",
    "SearchReport",
    "evaluate",
    "evaluate_folds",
    "evaluate_pairs",
    "evaluate_scores",
    "evaluate_search",
]

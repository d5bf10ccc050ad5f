"""Decisions: a threshold with its error rates and calibration, which travels with a comparator."""

from pairfuse.decisions.calibration import Calibration, Isotonic, Platt
from pairfuse.decisions.decision import Decision
from pairfuse.decisions.estimate import Estimate

__all__ = ["Calibration", "Decision", "Estimate", "Isotonic", "Platt"]

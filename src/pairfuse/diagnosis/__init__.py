"""Telling the owner of a model of pairs why it is stuck."""

from pairfuse.diagnosis.diagnose import diagnose
from pairfuse.diagnosis.report import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]

"""Find out why a model of pairs does not learn."""

from pairfuse.diagnosis.report import Diagnosis, Finding
from pairfuse.diagnosis.run import diagnose

__all__ = ["Diagnosis", "Finding", "diagnose"]

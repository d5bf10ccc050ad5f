"""Models and inner-product forms in files, without pickle."""

from pairfuse.saving.model import Savable

__all__ = ["Savable"]

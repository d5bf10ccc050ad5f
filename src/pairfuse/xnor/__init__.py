"""Margins and certificates for one linear layer on a fusion, and the bounds of additive models."""

from pairfuse.xnor.bounds import AdditiveBounds, additive_bounds
from pairfuse.xnor.certificate import Certificate
from pairfuse.xnor.classes import class_certificate
from pairfuse.xnor.margin import xnor_margin
from pairfuse.xnor.pair import xnor_certificate

__all__ = [
    "AdditiveBounds",
    "Certificate",
    "additive_bounds",
    "class_certificate",
    "xnor_certificate",
    "xnor_margin",
]

"""From labeled items to training: splits without leakage, pairs and batches. And the smallest data set of pairs."""

from pairfuse.data.black_white import BlackWhitePairs, Pairs, Target
from pairfuse.data.identities import IdentityBatchSampler, identity_folds, split_identities
from pairfuse.data.pairs import LabelledPairs

__all__ = [
    "BlackWhitePairs",
    "IdentityBatchSampler",
    "LabelledPairs",
    "Pairs",
    "Target",
    "identity_folds",
    "split_identities",
]

"""Heads that rank the pairs before training, with a threshold or a scale that training cannot reach in time."""

import torch
from torch import nn

import pairfuse as pf
from clinic.case import Pairs, Patient, faulty


def _embeddings(size, width=32, pairs=64):
    """Pairs of frozen embeddings with a common offset; half of them show the same thing."""
    y = torch.arange(pairs) % 2.0
    left, other, noise = torch.randn(3, pairs, width)
    right = torch.where(y[:, None] > 0, left + 0.3 * noise, other)
    return Pairs(size * (left + 1.5), size * (right + 1.5), y)


def _comparator(fusion, width=32):
    return pf.SiameseComparator(nn.Identity(), fusion, embedding_dim=width)


@faulty("head-start")
def cosine_of_frozen_embeddings():
    """All cosines are above 0.5, so nearly every pair counts as the same; the ranking is good."""
    return Patient(_comparator("cosine"), *_embeddings(1.0))


@faulty("head-start")
def distance_of_small_frozen_embeddings():
    """Squared distances are so small that every logit is the bias, 3."""
    return Patient(_comparator("squared-diff"), *_embeddings(0.05))

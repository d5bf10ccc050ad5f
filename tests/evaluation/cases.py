"""Small sets of labeled items, and their pairs one by one."""

import torch
from torch import Generator, nn

import pairfuse as pf


def labeled_items(identities, each=4, *, noise=0.8, width=6, seed=0):
    """Items and labels; those of an identity lie around one point."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(identities).repeat_interleave(each)
    centers = torch.randn(identities, width, generator=generator)
    return centers[labels] + noise * torch.randn(len(labels), width, generator=generator), labels


def comparator(fusion="cosine", *, width=6, **options):
    """A comparator of the items themselves."""
    return pf.SiameseComparator(nn.Identity(), fusion, embedding_dim=width, **options)


def one_by_one(scores, labels, labels2=None, *, halved=False):
    """Scores, targets and the labels of both sides for all pairs of a score matrix, without self-pairs of one set."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in scores.shape), indexing="ij")
    wanted = torch.ones_like(scores, dtype=torch.bool)
    if labels2 is None:
        labels2, wanted = labels, rows < columns if halved else rows != columns
    left, right = labels[rows[wanted]], labels2[columns[wanted]]
    return scores[wanted], (left == right).int(), left, right

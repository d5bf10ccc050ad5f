"""Pairs that can be memorized with one number for each item."""

import graphlib

import torch
from torch import Tensor

from pairfuse.diagnosis.sample import item_key
from pairfuse.items.batches import Batch


def is_memorizable(x1: Batch, x2: Batch, same: Tensor) -> bool:
    """True if some sum g(x1) + h(x2) has the right sign for all given pairs; fitting them then proves nothing.

    With a left item's number g and a right item's number h, "same" says g > -h and "different" says g < -h. Such
    numbers exist iff this order has no cycle: no closed walk through the pairs on which same and different alternate.
    """
    below: dict[tuple[str, bytes], set[tuple[str, bytes]]] = {}
    for index, is_same in enumerate(torch.as_tensor(same).tolist()):
        left, right = ("left", item_key(x1, index)), ("right", item_key(x2, index))
        above, under = (left, right) if is_same else (right, left)
        below.setdefault(above, set()).add(under)
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError:
        return False
    return True

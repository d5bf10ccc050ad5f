"""The moments of all pairs by looking at every pair, in float64."""

import copy

import torch


def brute_force(fusion, u, labels, v=None, labels2=None, scale=1.0):
    """Count, mean and mean product of the features over all, same and different pairs."""
    fusion = copy.deepcopy(fusion).double().eval()
    one_set = v is None
    v, labels2 = (u, labels) if one_set else (v, labels2)
    u, v = u.double() * scale, v.double() * scale
    pairs = (labels[:, None] >= 0) & (labels2 >= 0)
    if one_set:
        pairs &= ~torch.eye(len(u), dtype=torch.bool)
    same = labels[:, None] == labels2
    found = []
    for chosen in (pairs, pairs & same, pairs & ~same):
        i, j = chosen.nonzero(as_tuple=True)
        with torch.no_grad():
            features = fusion(u[i], v[j])
        count = max(1, len(i))
        found.append((len(i), features.sum(0) / count, features.mT @ features / count))
    return found


def worst_difference(moments, expected, size):
    """The largest difference of a figure, relative to the size of the features."""
    found = [moments.all_pairs, moments.same_pairs, moments.different_pairs]
    worst = 0.0
    for ours, (count, mean, gram) in zip(found, expected, strict=True):
        assert ours.pairs == count
        for x, y, unit in ((ours.mean, mean, size), (ours.gram, gram, size**2)):
            worst = max(worst, float((x - y).abs().max()) / unit)
    return worst

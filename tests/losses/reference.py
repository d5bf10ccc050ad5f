"""The losses over all pairs as double loops, in the words of their formulas, on scores of the pair-by-pair path."""

import torch


def pair_scores(model, u, v):
    """The score of every pair, each fused by itself: `(N, M)`."""
    n, m = len(u), len(v)
    left, right = u[:, None].expand(n, m, -1).reshape(n * m, -1), v.expand(n, m, -1).reshape(n * m, -1)
    return model.head(model.fusion.fuse(left, right)).reshape(n, m)


def loss(scores, labels, labels2, *, one_set, objective, margin=1.0, negatives="all"):
    """The loss of a score matrix."""
    n, m = scores.shape
    pairs = [[(i, j) for j in range(m) if not (one_set and i == j)] for i in range(n)]
    same = [[scores[i, j] for i, j in row if labels[i] == labels2[j]] for row in pairs]
    different = [[scores[i, j] for i, j in row if labels[i] != labels2[j]] for row in pairs]
    if objective == "bce":
        softplus = torch.nn.functional.softplus
        positive, negative = ([score for row in rows for score in row] for rows in (same, different))
        return (softplus(-torch.stack(positive)).mean() + softplus(torch.stack(negative)).mean()) / 2
    if objective == "neighbors":
        average = torch.stack([score for row in different for score in row]).exp().sum() / n
        together = [torch.stack(row).exp().sum() for row in same if row]
        return torch.stack([-(p / (p + average)).log() for p in together]).mean()
    if objective == "softmax":
        terms = [torch.stack([p, *q]).logsumexp(0) - p for ps, q in zip(same, different, strict=True) for p in ps]
        return torch.stack(terms).mean()
    triplets = [
        margin - p + q
        for ps, qs in zip(same, different, strict=True)
        for p in ps
        for q in qs
        if q - p > -margin and (negatives == "all" or q < p)
    ]
    return torch.stack(triplets).mean() if triplets else scores.sum() * 0

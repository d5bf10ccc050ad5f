"""Probe `nan-gradient`."""

import torch

from pairfuse.diagnosis.module_search import named_weights
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject


def nan_gradient(subject: Subject) -> Result:
    """Symptom: training goes well until a pair of two identical inputs comes; then every weight is NaN.

    Computation: the gradients of the sum of the logits, in the parameters, once for the given pairs, and once for
    pairs of an item with itself where the sides take the same kind. Threshold: a single NaN or infinity. False
    alarms: none; a model that never meets two identical inputs is not hurt.
    """
    kinds = {"the given pairs": subject.some_pairs()}
    if subject.alike:
        items = subject.left
        kinds["pairs of an item with itself"] = (items, items)
    tried = 0
    for kind, (x1, x2) in kinds.items():
        with subject.lent():
            named = {name: p for name, p in named_weights(subject.needs_module()).items() if p.is_floating_point()}
            names, wanted = list(named), [parameter.requires_grad_() for parameter in named.values()]
            logits = subject.score(x1, x2, gradients=True).logits
            if not wanted or not logits.requires_grad:
                continue
            tried += 1
            gradients = torch.autograd.grad(logits.nan_to_num().sum(), wanted, allow_unused=True)
        bad = [n for n, g in zip(names, gradients, strict=True) if g is not None and not g.isfinite().all()]
        if bad:
            return Result(
                "fail",
                f"For {kind} the gradient is NaN or infinite in {', '.join(bad[:3])}{' and more' if bad[3:] else ''}.",
                {"parameters with such gradients": len(bad)},
                "A square root, a norm or a logarithm is taken at 0: add a small number under the root, or use "
                "torch.linalg.vector_norm or nn.PairwiseDistance, whose gradients there are finite.",
                proved=True,
            )
    if not tried:
        raise Skip("no gradient reaches any parameter")
    return OK

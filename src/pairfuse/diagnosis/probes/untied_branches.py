"""Probe `untied-branches`."""

import torch

from pairfuse.diagnosis.embeddings import embed
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Skip, Subject

UNRELATED = 0.5


def untied_branches(subject: Subject) -> Result:
    """Symptom: a model of two encoders learns slowly, and an item is not even "the same" as itself.

    Computation: the squared distance between the left and the right embedding of one item, divided by that of two
    different items. Threshold: `note` above rounding, `warn` above 0.5, where the two embeddings of an item have next
    to nothing to do with each other. False alarms: two kinds of things of equal shape, such as a photograph and a
    sketch.
    """
    if not subject.alike:
        raise Skip("the two sides take different kinds of items")
    items = subject.left
    found = embed(subject, items, take(items, torch.arange(subject.rows).roll(1)))
    u, v = found.u.detach().double(), found.v.detach().double().roll(-1, 0)  # row i of both is item i
    if u.shape != v.shape:
        raise Skip("the two embeddings differ in width")
    own = float((u - v).square().sum(1).mean())
    others = float((u[:, None] - v).square().sum(2)[~torch.eye(len(u), dtype=torch.bool, device=u.device)].mean())
    if own <= 1e-6 * max(others, float(u.square().sum(1).mean())):
        return OK
    evidence = {"distance of an item from itself": own**0.5, "of two items": others**0.5}
    text = "The two sides have encoders of their own, though they take the same kind of item"
    advice = "Use one encoder for both sides, unless they show different things (a photograph, a sketch)."
    if own > UNRELATED * others:
        text += ": of one item they make embeddings as different as those of two items."
        return Result("warn", text, evidence, advice)
    return Result("note", f"{text}, with related embeddings.", evidence, advice)

"""Probe `double-sigmoid`."""

from pairfuse.diagnosis.function_recorder import PROBABILITIES, Call, Calls, same_numbers
from pairfuse.diagnosis.loss_kind import name_of, wants_log_probabilities, wants_logits
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject

ADVICE = (
    "Return the plain logit from the model and train with nn.BCEWithLogitsLoss; apply one sigmoid where you need a "
    "probability."
)


def double_sigmoid(subject: Subject) -> Result:
    """Symptom: every probability is between 0.5 and 0.73, and the loss stops falling early, at 0.31 or more.

    Computation: whether the last sigmoid (or softmax) of the model reads the result of another, seen as the calls are
    made; whether probabilities go into a loss that applies its own, or logits into one that does not, if `loss` is
    given.
    Threshold: none. False alarms: none known where calls are seen; a sigmoid inside a gate does not count.
    """
    calls = Calls()
    output = subject.score(*subject.some_pairs(), calls=calls)
    low, high = float(output.values.min()), float(output.values.max())
    evidence = {"least output": low, "greatest output": high}
    if output.link is not None and output.link.name in PROBABILITIES and _reads_probabilities(calls, output.link):
        return Result("fail", "The model applies a sigmoid to what is a probability already.", evidence, ADVICE, True)
    if subject.loss is None:
        raise Skip("whether the loss fits what the model returns: no loss was given")
    takes_logits, name = wants_logits(subject.loss), name_of(subject.loss)
    if takes_logits and subject.probabilities:
        text = f"The model returns probabilities, and {name} applies a sigmoid or softmax of its own to them."
        seen = output.link is not None and output.link.name in PROBABILITIES
        return Result("fail" if seen else "warn", text, evidence, ADVICE, seen)
    if takes_logits is False and (low < 0 or high > 1):
        text = f"The model returns scores beyond [0, 1], and {name} wants probabilities."
        return Result("fail", text, evidence, "Train with nn.BCEWithLogitsLoss.", True)
    if wants_log_probabilities(subject.loss) and high > 0:
        text = f"The model returns scores above 0, and {name} wants logarithms of probabilities."
        return Result("fail", text, evidence, "Train with nn.CrossEntropyLoss, which takes logits.", True)
    return OK


def _reads_probabilities(calls: Calls, link: Call) -> bool:
    return any(call.name in PROBABILITIES and same_numbers(call.result, link.first) for call in calls.kept)

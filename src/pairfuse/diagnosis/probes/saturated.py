"""Probe `saturated`."""

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject

LIMIT = 15.0  # a probability within 3e-7 of 0 or 1
SHARE = 0.25


def saturated(subject: Subject) -> Result:
    """Symptom: probabilities of exactly 0 or 1 from the start; with a sigmoid and a squared error the loss never moves.

    Computation: the share of the given pairs whose logit is beyond ±15, where the sigmoid's slope is under 3e-7.
    Threshold: half of the pairs, unless the targets say that these are right. False alarms: a well trained model,
    where no targets are given.
    """
    subject.needs_varied_scores()
    values = subject.given.logits.double()
    if subject.probabilities and subject.given.link is None:
        values = subject.given.scores.double().clamp(1e-12, 1 - 1e-12).logit()
    if not values.isfinite().any():
        raise Skip("no finite scores")
    far = values.abs() > LIMIT
    evidence = {"beyond ±15": f"{int(far.sum())} of {len(far)}", "largest logit": float(values.abs().max())}
    if far.double().mean() < SHARE:
        return OK
    if subject.same is not None:
        wrong = ((values > 0) != subject.same[: len(values)].to(values.device)) & far
        evidence["of these wrong"] = int(wrong.sum())
        if wrong.sum() <= 0.02 * far.sum():
            return Result("note", "Many logits are beyond ±15, and right: nothing is left to learn here.", evidence)
    steep = " The sigmoid is flat there." if subject.probabilities else ""
    return Result(
        "warn",
        f"Many logits are beyond ±15, so that the probabilities are 0 or 1 to six digits.{steep}",
        evidence,
        "Scale the inputs to about unit variance, normalise the embeddings, or make the head's first weights smaller. "
        "Train on logits with nn.BCEWithLogitsLoss, whose gradient does not vanish for wrong answers.",
    )

"""`Decision`: a threshold, the error rates at it, and what turns scores into probabilities."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from pairfuse._checks import check_probability
from pairfuse.decisions.calibration import Calibration, calibration_from_dict
from pairfuse.decisions.estimate import Estimate
from pairfuse.decisions.fields import check_fields, read_count, read_number, read_text, without_nan

RULES = ("far", "eer", "cost", "precision")  # what a threshold is chosen for


@dataclass(frozen=True)
class Decision:
    """When two things count as the same, and how often that is wrong. Made by `Report.decide`.

    A pair is called the same if its score is at least `threshold`. Set it as `model.decision`: then `model.same` uses
    it, `predict_proba` is calibrated, and `save_pretrained` saves it with the model.

    Attributes:
        threshold: The least score, a raw logit, of a pair that is called the same.
        rule: What the threshold was chosen for, such as `{"far": 0.01}`.
        far: Share of negative pairs that are called the same, at this threshold, on the pairs of the report.
        tar: Share of positive pairs that are called the same.
        calibration: From scores to the logit of the probability, if half of all pairs are the same.
        prior: Share of pairs that are the same where the model is used. Probabilities and `precision` are for it.
        confidence: Level of the intervals.
        identities: Number of identities that the rates rest on; 0 if unknown.
        positives: Number of positive pairs.
        negatives: Number of negative pairs.
        comparison: The fusion and head whose scores these are; empty for scores from elsewhere.
    """

    threshold: float
    rule: dict[str, Any]
    far: Estimate
    tar: Estimate
    calibration: Calibration
    prior: float = 0.5
    confidence: float = 0.95
    identities: int = 0
    positives: int = 0
    negatives: int = 0
    comparison: str = ""

    @property
    def precision(self) -> Estimate:
        """Share of the pairs called the same that are, at the prior. The interval is from those of FAR and TAR."""
        ends = ((self.far.value, self.tar.value), (self.far.high, self.tar.low), (self.far.low, self.tar.high))
        shares = []
        for far, tar in ends:
            right, wrong = self.prior * tar, (1 - self.prior) * far
            shares.append(right / (right + wrong) if right + wrong > 0 else math.nan)
        return Estimate(shares[0], shares[1], shares[2], self.far.note or self.tar.note)

    def logits(self, scores: Tensor) -> Tensor:
        """Return the logits of the calibrated probabilities at the prior, for scores of any shape."""
        return self.calibration(scores) + logit(self.prior)

    def accepts(self, scores: Tensor) -> Tensor:
        """Return True for each score of a pair that is called the same."""
        return scores.to(torch.promote_types(scores.dtype, torch.float32)) >= self.threshold

    def at_prior(self, prior: float) -> "Decision":
        """Return the decision for another share of positive pairs.

        The logits of all probabilities move by the difference of the logits of the two priors, which is exact. The
        threshold stays, since FAR and TAR do not depend on the prior.

        Args:
            prior: Share of pairs that are the same where the model is used, above 0 and below 1.

        Raises:
            ValueError: The prior is not above 0 and below 1, or the threshold was chosen for a cost or a precision,
                which depends on the prior.

        Examples:
            >>> import torch, pairfuse as pf
            >>> scores, y = torch.randn(2000), torch.arange(2000) % 2
            >>> decision = pf.evaluate_scores(scores + y, y).decide(far=0.1)
            >>> logits = decision.logits(scores)
            >>> (decision.at_prior(0.01).logits(scores) - logits).mean()  # log(1 / 99)
            tensor(-4.5951)
        """
        prior = check_probability("at_prior", "prior", prior)
        changed = {"cost", "precision"} & set(self.rule)
        if changed:
            raise ValueError(
                f"at_prior expects a threshold that does not depend on the prior, got one for a {changed.pop()}: call "
                "report.decide again, with the other prior"
            )
        return replace(self, prior=prior)

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain numbers and strings, for JSON."""
        plain: dict[str, Any] = without_nan({**asdict(self), "calibration": self.calibration.to_dict()})
        return plain

    @classmethod
    def from_dict(cls, values: Any) -> "Decision":
        """Return the decision that `to_dict` was called on.

        Raises:
            ValueError: A field is unknown or missing, or has a wrong kind of value.
        """
        owner = "a decision"
        names = [field.name for field in fields(cls)]
        given = check_fields(owner, values, names)
        rule = given["rule"]
        if not isinstance(rule, dict) or len(rule) != 1 or not set(rule) <= set(RULES):
            raise ValueError(f"{owner}'s rule must be one of {', '.join(RULES)} with its value, got {rule!r:.80}")
        for value in next(iter(rule.values())) if isinstance(rule.get("cost"), list) else rule.values():
            read_number(f"{owner}'s rule", value + 0.0 if value is True else value, low=0)
        return cls(
            threshold=read_number(f"{owner}'s threshold", given["threshold"]),
            rule=rule,
            far=Estimate.from_dict(f"{owner}'s far", given["far"]),
            tar=Estimate.from_dict(f"{owner}'s tar", given["tar"]),
            calibration=calibration_from_dict(given["calibration"]),
            prior=read_number(f"{owner}'s prior", given["prior"], low=1e-300, high=1 - 1e-16),
            confidence=read_number(f"{owner}'s confidence", given["confidence"], low=1e-300, high=1 - 1e-16),
            **{name: read_count(f"{owner}'s {name}", given[name]) for name in ("identities", "positives", "negatives")},
            comparison=read_text(f"{owner}'s comparison", given["comparison"]),
        )

    def __str__(self) -> str:
        """Return a few lines for people."""
        ((rule, value),) = self.rule.items()
        chosen = "FAR = TAR" if rule == "eer" else f"{rule} {value}"
        count = f"{self.positives:,} positive and {self.negatives:,} negative pairs"
        count += f" of {self.identities:,} identities" if self.identities else ""
        rows = [
            ("called the same", f"score ≥ {self.threshold:.4g} (chosen for {chosen})"),
            ("negative pairs called the same", f"{self.far}"),
            ("positive pairs called the same", f"{self.tar}"),
            (f"precision at prior {self.prior:g}", f"{self.precision}"),
            ("rests on", count),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def logit(probability: float) -> float:
    """Return the logit of a probability above 0 and below 1."""
    return math.log(probability) - math.log1p(-probability)

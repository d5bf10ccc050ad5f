"""Decisions as plain numbers: read back exactly, and checked field by field."""

import copy
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pairfuse.decisions import Decision, Estimate, Isotonic, Platt

DECISION = Decision(
    threshold=1.25,
    rule={"far": 0.01},
    far=Estimate(0.01, 0.008, 0.012),
    tar=Estimate(0.9, 0.85, 0.94, "3 errors"),
    calibration=Isotonic((-1.0, 0.5, 2.0), (-3.0, 0.0, 4.0)),
    prior=0.1,
    identities=40,
    positives=240,
    negatives=12_480,
    comparison="Product -> Linear",
)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1 - 1e-6), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_it_is_read_back_exactly(threshold, prior, slope, intercept):
    """Through JSON, with every digit."""
    parts = {"threshold": threshold, "prior": prior, "calibration": Platt(slope, intercept)}
    decision = Decision(**{**vars(DECISION), **parts})
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision


def test_an_unknown_interval_is_read_back():
    """Ends that are NaN stay NaN."""
    decision = Decision(**{**vars(DECISION), "far": Estimate(0.01)})
    read = Decision.from_dict(json.loads(json.dumps(decision.to_dict())))
    assert math.isnan(read.far.low)
    assert read.far.value == 0.01
    assert read.calibration == DECISION.calibration


def places(values, path=()):
    """The paths of all values in nested dicts and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.floats(), max_size=2),
)  # fmt: skip


@given(st.sampled_from(sorted(places(DECISION.to_dict()), key=str)), JUNK)
def test_any_other_value_is_read_or_refused_in_our_words(path, junk):
    """A damaged field is an error that says what must be, never one of Python's own."""
    values = copy.deepcopy(DECISION.to_dict())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    decision, message = None, ""
    try:
        decision = Decision.from_dict(values)
    except ValueError as error:
        message = str(error)
    assert message.startswith(("a decision", "the calibration")) == (decision is None)
    assert decision is None or decision.logits(torch.tensor([0.0, 1.0], dtype=torch.float64)).isfinite().all()


REFUSED = {
    "unknown": ({"color": 1}, "a decision has unknown fields: color. It may be from a newer version"),
    "threshold": ({"threshold": "high"}, "a decision's threshold must be a number, got 'high'"),
    "infinite": ({"threshold": math.inf}, "a decision's threshold must be a finite number, got inf"),
    "prior": ({"prior": 1.0}, "a decision's prior must be a finite number from 1e-300 to 1, got 1.0"),
    "count": ({"identities": -1}, "a decision's identities must be a whole number of at least 0, got -1"),
    "rule": ({"rule": {"luck": 1}}, "a decision's rule must be one of far, eer, cost, precision"),
    "words": ({"rule": {"far": "low"}}, "a decision's rule must be a number, got 'low'"),
    "share": ({"far": {"value": 5, "low": 0, "high": 1, "note": ""}}, "a decision's far.value must be a finite number"),
    "confidence": ({"confidence": 0}, "a decision's confidence must be a finite number"),
    "text": ({"comparison": 3}, "a decision's comparison must be a string, got 3"),
    "interval": ({"far": {"value": 0.1}}, "a decision's far lacks the fields high, low, note"),
    "method": ({"calibration": {"method": "beta"}}, "must have the method 'platt' or 'isotonic', got 'beta'"),
    "slope": ({"calibration": {"method": "platt", "slope": -1, "intercept": 0}}, "slope must be a finite number"),
    "points": (
        {"calibration": {"method": "isotonic", "scores": [0, 0], "logits": [0, 1]}},
        "must have increasing scores and as many logits",
    ),
    "list": ({"calibration": {"method": "isotonic", "scores": 1, "logits": [0]}}, "must be a list of numbers, got 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    """One clear error each."""
    changed, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        Decision.from_dict({**DECISION.to_dict(), **changed})


def test_no_mapping_and_missing_fields():
    """The whole may be something else, or lack a part."""
    with pytest.raises(ValueError, match="a decision must be a mapping of fields, got list"):
        Decision.from_dict([1])
    with pytest.raises(ValueError, match="a decision lacks the fields far, prior"):
        Decision.from_dict({k: v for k, v in DECISION.to_dict().items() if k not in ("far", "prior")})


def test_isotonic_calibration_is_a_line_through_its_points():
    """Constant beyond the first and the last point, straight between two."""
    at = torch.tensor([-5.0, -1.0, -0.25, 0.5, 1.25, 2.0, 9.0], dtype=torch.float64)
    expected = torch.tensor([-3.0, -3.0, -1.5, 0.0, 2.0, 4.0, 4.0], dtype=torch.float64)
    assert torch.allclose(DECISION.calibration(at), expected)
    assert DECISION.calibration(at.view(7, 1)).shape == (7, 1)


def test_the_text():
    """A few lines say what it means."""
    lines = str(DECISION).splitlines()
    assert lines[0].endswith("score ≥ 1.25 (chosen for far 0.01)")
    assert lines[1].split("  ")[-1] == "0.0100 [0.0080, 0.0120]"
    assert lines[2].endswith("between 0.850 and 0.940 (3 errors)")
    assert lines[3].startswith("precision at prior 0.1 ")
    assert lines[4].endswith("240 positive and 12,480 negative pairs of 40 identities")


def test_precision_follows_from_the_rates_and_the_prior():
    """Its interval joins the worst and the best ends."""
    precision = DECISION.precision
    assert precision.value == pytest.approx(0.1 * 0.9 / (0.1 * 0.9 + 0.9 * 0.01))
    assert precision.low == pytest.approx(0.1 * 0.85 / (0.1 * 0.85 + 0.9 * 0.012))
    assert precision.high == pytest.approx(0.1 * 0.94 / (0.1 * 0.94 + 0.9 * 0.008))
    assert math.isnan(Decision(**{**vars(DECISION), "far": Estimate(0.0), "tar": Estimate(0.0)}).precision.value)

"""The clinic: each planted fault is the first finding, and no healthy model fails."""

from collections import Counter

import pytest
from clinic import FAULTY, HEALTHY

import pairfuse as pf
from pairfuse.diagnosis.probes import PROBES


def diagnose(case, seed):
    patient = case.build(seed)
    diagnosis = pf.diagnose(patient.model, patient.x1, patient.x2, patient.y, **patient.options)
    assert not [reason for reason in diagnosis.skipped.values() if reason.startswith("could not run")]
    return diagnosis


def check_faulty(case, seed):
    diagnosis = diagnose(case, seed)
    alarms = [finding.id for finding in diagnosis.findings if finding.verdict in ("fail", "warn")]
    assert alarms[:1] == [case.finding], f"seed {seed}\n{diagnosis}"
    assert diagnosis[case.finding].advice


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_faulty(case):
    """The planted fault is the first `fail` or `warn`, with advice."""
    check_faulty(case, 0)


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_healthy(case):
    """A healthy model gets no `fail`, and every decisive probe has an answer."""
    diagnosis = diagnose(case, 0)
    assert diagnosis.ok, str(diagnosis)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])  # the benchmark `clinic` has more
def test_other_seeds(seed):
    """The same holds for other random weights and data."""
    for case in FAULTY:
        check_faulty(case, seed)
    for case in HEALTHY:
        assert diagnose(case, seed).ok, case.name


def test_size():
    """At least 30 faulty models, two for each probe, and 20 healthy ones, with names of their own."""
    faults = Counter(case.finding for case in FAULTY)
    assert faults.keys() == {probe.id for probe in PROBES}
    assert sum(faults.values()) >= 30
    assert min(faults.values()) >= 2
    assert len(HEALTHY) >= 20
    assert len({case.name for case in FAULTY + HEALTHY}) == len(FAULTY + HEALTHY)

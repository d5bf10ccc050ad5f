"""Every planted fault is found first, and no healthy model is said to fail, whatever the seed."""

from collections import Counter

import pytest
from clinic import FAULTY, HEALTHY

import pairfuse as pf
from pairfuse.diagnosis.probes import PROBES

SEEDS = range(5)


def examine(case, seed):
    patient = case.build(seed)
    return pf.diagnose(patient.model, patient.x1, patient.x2, patient.y, **patient.options)


def first_alarm(diagnosis):
    return next((finding.id for finding in diagnosis.findings if finding.verdict in ("fail", "warn")), None)


def crashed(diagnosis):
    return {id: reason for id, reason in diagnosis.skipped.items() if reason.startswith("could not run")}


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_the_planted_fault_is_the_first_finding(case):
    for seed in SEEDS:
        diagnosis = examine(case, seed)
        assert first_alarm(diagnosis) == case.finding, f"seed {seed}\n{diagnosis}"
        assert not crashed(diagnosis)
        assert diagnosis[case.finding].advice


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_no_healthy_model_fails(case):
    for seed in SEEDS:
        diagnosis = examine(case, seed)
        assert diagnosis.ok, f"seed {seed}\n{diagnosis}"
        assert not crashed(diagnosis)


def test_the_clinic_is_large_enough():
    """At least 30 faulty models, two for each probe, and 20 healthy ones."""
    faults = Counter(case.finding for case in FAULTY)
    assert faults.keys() == PROBES.keys()
    assert sum(faults.values()) >= 30
    assert min(faults.values()) >= 2
    assert len(HEALTHY) >= 20
    assert len({case.name for case in FAULTY + HEALTHY}) == len(FAULTY + HEALTHY)

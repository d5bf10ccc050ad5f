"""The confusion table of the clinic: what was planted, and what `diagnose` finds first.

python -m tests.benchmarks.clinic [--seeds 5]
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from clinic import FAULTY, HEALTHY

import pairfuse as pf
from pairfuse.diagnosis.probes import PROBES


def main() -> None:
    """Print a row for each planted fault, and one for the healthy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each model")
    seeds = parser.parse_args().seeds
    rows: dict[str, Counter[str]] = {id: Counter() for id in (*(probe.id for probe in PROBES), "none")}
    models: Counter[str] = Counter()
    failed = warned = 0
    start = time.perf_counter()
    for case in FAULTY + HEALTHY:
        planted = case.finding or "none"
        models[planted] += 1
        for seed in range(seeds):
            patient = case.build(seed)
            diagnosis = pf.diagnose(patient.model, patient.x1, patient.x2, patient.y, **patient.options)
            alarms = [finding for finding in diagnosis.findings if finding.verdict in ("fail", "warn")]
            rows[planted][alarms[0].id if alarms else "none"] += 1
            failed += case.finding is None and not diagnosis.ok
            warned += case.finding is None and bool(alarms)
            if (alarms[0].id if alarms else None) != case.finding:
                print(f"{case.name}, seed {seed}: {[(a.verdict, a.id) for a in alarms]}", file=sys.stderr)
            for id, reason in diagnosis.skipped.items():
                if reason.startswith("could not run"):
                    print(f"{case.name}, seed {seed}: {id} {reason}", file=sys.stderr)
    seconds = time.perf_counter() - start
    print("| planted | models | runs | found first | found instead |\n|---|---|---|---|---|")
    for planted, found in rows.items():
        others = ", ".join(f"`{id}` {count}" for id, count in found.most_common() if id != planted)
        name = "nothing: healthy" if planted == "none" else f"`{planted}`"
        print(f"| {name} | {models[planted]} | {found.total()} | {found[planted]} | {others or '–'} |")
    runs = sum(found.total() for found in rows.values())
    healthy = rows["none"].total()
    print(f"\nOf {healthy} runs on healthy models {failed} gave a `fail`, and {warned} a `warn`.")
    print(f"{seconds / runs:.2f} s a run on average, {models.total()} models, {seeds} seeds each.")


if __name__ == "__main__":
    main()

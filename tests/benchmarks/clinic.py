"""The confusion table of the clinic: what was planted, and what `diagnose` finds first.

python -m tests.benchmarks.clinic
"""

import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from clinic import FAULTY, HEALTHY

import pairfuse as pf
from pairfuse.diagnosis.probes import PROBES

SEEDS = 5


def main() -> None:
    """Print a row for each planted fault, and one for the healthy."""
    rows: dict[str, Counter[str]] = {id: Counter() for id in (*PROBES, "none")}
    models: Counter[str] = Counter()
    failed = warned = 0
    start = time.perf_counter()
    for case in FAULTY + HEALTHY:
        planted = case.finding or "none"
        models[planted] += 1
        for seed in range(SEEDS):
            patient = case.build(seed)
            diagnosis = pf.diagnose(patient.model, patient.x1, patient.x2, patient.y, **patient.options)
            alarms = [finding for finding in diagnosis.findings if finding.verdict in ("fail", "warn")]
            rows[planted][alarms[0].id if alarms else "none"] += 1
            failed += case.finding is None and not diagnosis.ok
            warned += case.finding is None and bool(alarms)
    seconds = time.perf_counter() - start
    print("| planted | models | runs | found first | found instead |\n|---|---|---|---|---|")
    for planted, found in rows.items():
        others = ", ".join(f"`{id}` {count}" for id, count in found.most_common() if id != planted)
        name = "nothing: healthy" if planted == "none" else f"`{planted}`"
        print(f"| {name} | {models[planted]} | {found.total()} | {found[planted]} | {others or '–'} |")
    runs = sum(found.total() for found in rows.values())
    healthy = rows["none"].total()
    print(f"\nOf {healthy} runs on healthy models {failed} gave a `fail`, and {warned} a `warn`.")
    print(f"{seconds / runs:.2f} s a run on average, {models.total()} models, {SEEDS} seeds each.")


if __name__ == "__main__":
    main()

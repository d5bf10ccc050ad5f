"""Does the default test run see a fault? Apply deliberate faults one at a time and print which test saw each.

    python -m tests.benchmarks.mutants                     # all faults without a result yet
    python -m tests.benchmarks.mutants --only xnor heads   # faults whose file, text or description contains a word
    python -m tests.benchmarks.mutants --again --jobs 2    # from the start, two at a time

Each fault is applied in a temporary copy of the repository. The tests that mirror its file run first, then the rest of
the default run. Results are kept in a file (`--results`), so that an interrupted run goes on where it stopped. The exit
status is 1 if a fault was not seen, or if its text does not occur exactly once in its file.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from queue import Queue

from tests.benchmarks.mutant_list import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
PATIENCE = 1800  # seconds until a run counts as hung, which is seen too
MISSED, STALE = "not seen", "its text does not occur exactly once"


def relevant(file: str) -> list[str]:
    """The tests that mirror a source file: the folder of its package, or the tests of the module."""
    package = Path(file).parts[0]
    folder = ROOT / "tests" / package
    found = [folder] if folder.is_dir() else sorted((ROOT / "tests").glob(f"**/test_{Path(file).stem}*.py"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def copy_repository(to: Path) -> Path:
    """Copy the files that git knows or would add, as they are now."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def run_tests(copy: Path, paths: list[str], ignored: list[str]) -> str | None:
    """Run the default tests of some paths until one fails, and return its name."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *paths]
    command += [f"--ignore={path}" for path in ignored]
    environment = os.environ | {
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # a fault of the same length, within the same second, would not be compiled
        "OMP_NUM_THREADS": "1",
    }
    try:
        result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no end of {' '.join(paths)}"
    if result.returncode in (0, 5):  # 5: no tests there
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    return found[1] if found else (result.stdout + result.stderr).strip().splitlines()[-1]


def try_mutant(mutant: Mutant, copy: Path) -> str:
    """The test that sees a fault, or why there is none."""
    path = copy / "src" / "pairfuse" / mutant.file
    before = path.read_text() if path.is_file() else ""
    if before.count(mutant.old) != 1:
        return STALE
    path.write_text(before.replace(mutant.old, mutant.new))
    try:
        first = relevant(mutant.file)
        return (first and run_tests(copy, first, [])) or run_tests(copy, [], first) or MISSED
    finally:
        path.write_text(before)


def key(mutant: Mutant) -> str:
    return sha256(repr(mutant[:3]).encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="words that the file, text or description contains")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    parser.add_argument("--again", action="store_true", help="forget the results there are")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "pairfuse-mutants.jsonl")
    options = parser.parse_args()
    if options.again:
        options.results.unlink(missing_ok=True)
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    results = dict(json.loads(line) for line in lines)
    chosen = [mutant for mutant in MUTANTS if any(word in " ".join(mutant) for word in options.only)]
    due = [mutant for mutant in chosen if results.get(key(mutant), STALE) == STALE]
    print(f"{len(chosen)} faults, {len(chosen) - len(due)} with a result in {options.results}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        copies: Queue[Path] = Queue()
        for number in range(options.jobs):
            copies.put(copy_repository(Path(folder) / str(number)))
        copy = copies.queue[0]
        for paths in sorted({tuple(relevant(mutant.file)) for mutant in due}):
            if paths and (failed := run_tests(copy, list(paths), [])):
                sys.exit(f"without any fault {failed} fails: no result would mean anything")

        def work(mutant: Mutant) -> tuple[Mutant, str]:
            copy = copies.get()
            try:
                return mutant, try_mutant(mutant, copy)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.jobs) as pool, options.results.open("a") as file:
            for number, (mutant, seen) in enumerate(pool.map(work, due), 1):
                results[key(mutant)] = seen
                print(json.dumps([key(mutant), seen]), file=file, flush=True)
                print(f"[{number}/{len(due)}] {mutant.file}: {mutant.breaks}\n    {seen}", flush=True)

    missed = [mutant for mutant in chosen if results[key(mutant)] in (MISSED, STALE)]
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} faults were seen")
    for mutant in missed:
        print(f"{results[key(mutant)]}: {mutant.file}: {mutant.breaks}: {mutant.old!r} → {mutant.new!r}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()

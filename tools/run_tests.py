"""Runs every test: the pure ones in parallel, then the ones that start real processes, alone.

The last line is the sum of both runs, in pytest's own words. Exit code 1 when anything failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# By file: what a file builds once for its tests is built by one worker only.
PURE = ("-m", "not graph", "-n", str(min(4, len(os.sched_getaffinity(0)))), "--dist", "loadfile")
GRAPH = ("-m", "graph", "-p", "no:xdist")
NO_TESTS_COLLECTED = 5


def run(selection: tuple[str, ...], arguments: list[str], junit: Path) -> int:
    """One pytest run over `selection`; its exit code."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "pytest", *selection, f"--junitxml={junit}", *arguments]
    print("+", *command[1:], flush=True)
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def outcomes(junit: Path) -> Counter[str]:
    """How many tests passed, failed, were skipped or broke, from a JUnit file."""
    counts: Counter[str] = Counter()
    for suite in ET.parse(junit).getroot().iter("testsuite"):
        counts["failed"] += int(suite.get("failures", 0))
        counts["skipped"] += int(suite.get("skipped", 0))
        counts["error"] += int(suite.get("errors", 0))
        counts["passed"] += int(suite.get("tests", 0))
    counts["passed"] -= counts["failed"] + counts["skipped"] + counts["error"]
    return counts


def main(arguments: list[str]) -> int:
    """Both runs, also when the first fails; `arguments` go to pytest."""
    # A shell starts background jobs with SIGINT ignored, and every child would inherit that: what the tests
    # end with SIGINT would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    total: Counter[str] = Counter()
    codes = []
    with tempfile.TemporaryDirectory() as folder:
        for name, selection in (("pure", PURE), ("graph", GRAPH)):
            junit = Path(folder) / f"{name}.xml"
            codes.append(run(selection, arguments, junit))
            if junit.is_file():
                total += outcomes(junit)
    words = ", ".join(
        f"{total[word]} {word}" for word in ("failed", "passed", "skipped", "error") if total[word]
    )
    print(f" {words or 'no tests ran'} in {time.monotonic() - started:.2f}s ".center(80, "="), flush=True)
    failed = [code for code in codes if code not in (0, NO_TESTS_COLLECTED)]
    return failed[0] if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

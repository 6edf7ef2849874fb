"""CPU hogs: what a busy machine looks like to the fast loop. Each burns one core at default priority.

`python -m wm_vla_ros.bench.cpu_load PARENT` is one of them; it ends with the process PARENT.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wm_vla_ros.processes import end_with

MOST = 16
_BURNING = "burning\n"


@contextmanager
def hogs(count: int) -> Iterator[tuple[int, ...]]:
    """Have `count` hogs burn while the block runs; yields their process ids.

    Enter it from the main thread: they end with the thread that started them. Raises RuntimeError when one
    does not start.
    """
    command = [sys.executable, "-m", "wm_vla_ros.bench.cpu_load", str(os.getpid())]
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        # Their start-up is over before anything is measured beside them.
        for process in started:
            if process.stdout is None or process.stdout.readline() != _BURNING:
                raise RuntimeError(f"a hog did not start: {process.args}")
        yield tuple(process.pid for process in started)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def main() -> None:
    """Burn until the end."""
    if not end_with(int(sys.argv[1]), signal.SIGKILL):
        return
    sys.stdout.write(_BURNING)
    sys.stdout.flush()
    while True:
        pass


if __name__ == "__main__":
    main()

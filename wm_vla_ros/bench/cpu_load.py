"""CPU hogs: what a busy machine looks like to the fast loop. Each burns one core at default priority.

`python -m wm_vla_ros.bench.cpu_load PARENT` is one of them; it ends with the process PARENT.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wm_vla_ros.bench.child_processes import children
from wm_vla_ros.processes import end_with

MOST = 16
_BURNING = "burning"


@contextmanager
def hogs(count: int) -> Iterator[tuple[int, ...]]:
    """Have `count` hogs burn while the block runs; yields their process ids. Raises as `children`."""
    with children([(__name__, str(os.getpid()))] * count, _BURNING) as started:
        yield tuple(process.pid for process in started)


def main() -> None:
    """Burn until the end."""
    if not end_with(int(sys.argv[1]), signal.SIGKILL):
        return
    print(_BURNING, flush=True)
    while True:
        pass


if __name__ == "__main__":
    main()

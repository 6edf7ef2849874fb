"""Something that only sleeps, on one core: where it did not run, the core ran nothing, or let it wait.

250 Hz under SCHED_FIFO, above everything in the stack, where that is permitted. A process of its own for each
core, since two threads of one Python would wait for each other's interpreter lock.

Late is not always the machine's own doing: the kernel may let a thread wait that is ready to run, real-time
ones too (its fair server gives normal threads that starve on a core 50 ms of each second there). The kernel
counts that (`run_delay` in /proc/PID/schedstat). The core stood still where the watcher was late and was not
waiting for its turn: its timer did not come, as where the host does something else.

`python -m wm_vla_ros.bench.steal_monitor CORE` prints a line when it watches, and one JSON object when
it is told to end by SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PERIOD = 0.004
# A core that is gone for half a control period can make a tick late that is not due to its own work.
STALL = 0.01
_ABOVE_THE_STACK = 40
_SCHEDSTAT = Path("/proc/self/schedstat")


def turn_awaited() -> float:
    """For how long the main thread has been ready to run and was not running, since it began, s."""
    return int(_SCHEDSTAT.read_bytes().split()[1]) * 1e-9


def watch(until: list[int], late: list[float], stalls: list[tuple[float, float]]) -> None:
    """Sleep until `until` holds something. late: ms after each deadline. stalls: from and to, monotonic s."""
    deadline = time.monotonic()
    awaited = turn_awaited()
    while not until:
        deadline += PERIOD
        time.sleep(max(0.0, deadline - time.monotonic()))
        now = time.monotonic()
        late.append(round(max(0.0, now - deadline) * 1e3, 4))
        before, awaited = awaited, turn_awaited()
        if now - deadline - (awaited - before) > STALL:
            stalls.append((deadline, now))
        deadline = max(deadline, now - PERIOD)


def main() -> None:
    """Watch the core given as the only argument."""
    if not _SCHEDSTAT.exists():  # before anything is measured that would be lost
        sys.exit(f"this kernel does not count how long a thread waits (CONFIG_SCHED_INFO): no {_SCHEDSTAT}")
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    os.sched_setaffinity(0, {int(sys.argv[1])})
    # Without permission this tells what default scheduling gives; the nodes say how to permit more.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_ABOVE_THE_STACK))
    late: list[float] = []
    stalls: list[tuple[float, float]] = []
    print("watching", flush=True)
    watch(ended, late, stalls)
    print(json.dumps({"late_ms": late, "stalls": stalls}))


if __name__ == "__main__":
    main()

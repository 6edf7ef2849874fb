"""Periodic work at absolute deadlines, and the scheduling that keeps it on time.

No ROS here: a `Ticker` runs under any `Clock`.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from wm_vla_ros.clock import Clock

REALTIME_HINT = (
    "real-time scheduling is not permitted, ticks may come late on a busy machine; permit it with "
    "`sudo setcap cap_sys_nice+ep $(readlink -f $(command -v python3))`, or `ulimit -r 50` after adding "
    "`<user> - rtprio 50` to /etc/security/limits.conf"
)
# A Python thread keeps the interpreter lock for this long while another one waits for it. The default
# of 5 ms is a quarter of a control period.
SWITCH_INTERVAL = 0.0005


@dataclass(frozen=True, slots=True)
class Tick:
    """One period. deadline: when it was due, s. lateness: how much later it began, s, never negative.

    missed: periods that were skipped just before it.
    """

    index: int
    deadline: float
    lateness: float
    missed: int


class Ticker:
    """Deadlines start + k * period. A period that is missed whole is skipped and counted, never caught up.

    period: s on `clock`.
    """

    def __init__(self, clock: Clock, period: float) -> None:
        if not period > 0.0:
            raise ValueError(f"period must be positive, got {period} s")
        self._clock = clock
        self._period = period
        self._deadline = clock.now()
        self._index = -1

    def wait(self) -> Tick:
        """Sleep to the next deadline and return what came of it."""
        self._deadline += self._period
        self._clock.sleep_until(self._deadline)
        behind = max(0.0, self._clock.now() - self._deadline)
        missed = int(behind / self._period)
        self._deadline += missed * self._period
        self._index += 1 + missed
        return Tick(self._index, self._deadline, behind - missed * self._period, missed)


def request_fifo(priority: int, warn: Callable[[str], None]) -> bool:
    """Put the calling thread under SCHED_FIFO at `priority` (1 to 99; 0 asks for nothing).

    Where that is not permitted, say so once through `warn`, with the way to permit it, and return False.
    """
    if priority == 0:
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        warn(REALTIME_HINT)
        return False
    return True


def settle_heap() -> None:
    """Call once after warm-up: what lives now lives for good, so the collector need never walk it again."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()

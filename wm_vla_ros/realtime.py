"""Periodic work at absolute deadlines.

No ROS here: a `Ticker` runs under any `Clock`.
"""

from __future__ import annotations

import math
import queue
from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from wm_vla_ros.clock import Clock


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

    def align(self, reference: float, tolerance: float) -> None:
        """Shift the deadlines by less than half a period so that `reference` (s) lies on their grid.

        Does nothing while they are within `tolerance` of it.
        """
        phase = (self._deadline - reference) / self._period
        offset = (phase - round(phase)) * self._period
        if abs(offset) > tolerance:
            self._deadline -= offset


class Beat:
    """Every `steps`-th step of a ticker: the beat of a slower loop within a faster one.

    It stays on its grid however late one was, since a beat that slipped each time would lose whole ones; and
    two are never closer than `apart` s: after one that was late the next waits a step.
    """

    def __init__(self, steps: int, apart: float) -> None:
        self._steps = steps
        self._apart = apart
        self._next = 0
        self._last = float("-inf")

    def due(self, index: int, now: float) -> bool:
        """Whether the step `index`, done at `now`, s, is one; if so it counts as done."""
        if index < self._next or now - self._last < self._apart:
            return False
        self._next = index - index % self._steps + self._steps
        self._last = now
        return True


class LatenessStats:
    """Lateness of the last ticks, for diagnostics. Written by one thread; readers may be a tick behind.

    A ring of plain doubles, made once: a tick that is recorded allocates nothing.
    """

    def __init__(self, window: int = 500) -> None:
        self._lateness = array("d", bytes(8 * window))
        self._ticks = 0
        self._missed = 0

    def add(self, lateness: float, missed: int) -> None:
        """One tick: lateness in s, and the periods that were skipped before it."""
        self._lateness[self._ticks % len(self._lateness)] = lateness
        self._ticks += 1
        self._missed += missed

    def summary(self) -> dict[str, object]:
        """Ticks and missed ticks since the start; median and 99th percentile of the last ticks, ms."""
        recent = sorted(self._lateness[: self._ticks])
        out: dict[str, object] = {"ticks": self._ticks, "missed_ticks": self._missed}
        if recent:
            out["late_p50_ms"] = round(recent[len(recent) // 2] * 1e3, 3)
            out["late_p99_ms"] = round(recent[int(len(recent) * 0.99)] * 1e3, 3)
        return out


class OverrunWatch:
    """Tells when a loop does not keep its period. Written by one thread; readers may be a cycle behind.

    A cycle overruns when its work ends later than one period after its deadline; one that was left out
    counts as one. The loop is degraded while at least `share` of the cycles of the last `window` s overran.
    period: s.
    """

    def __init__(self, period: float, window: float = 1.0, share: float = 0.05) -> None:
        self._period = period
        self._window = round(window / period)
        self._limit = max(1, math.ceil(share * self._window))
        self._overran: deque[bool] = deque(maxlen=self._window)  # the loop's own; not for readers
        self._took = array("d", bytes(8 * 500))
        self._cycles = 0
        self._silent_for = self._window
        self.degraded = False

    @property
    def p99(self) -> float:
        """How long after its deadline a cycle ended, s: 99th percentile of the last 500; 0 before any."""
        took = sorted(self._took[: self._cycles])
        return took[int(len(took) * 0.99)] if took else 0.0

    def add(self, took: float, missed: int = 0) -> str | None:
        """One cycle: how long after its deadline it ended, s, and the cycles left out before it.

        Returns what to say when the loop has become degraded, and once a window while it stays so.
        """
        self._overran.extend([True] * min(missed, self._window))
        self._overran.append(took > self._period)
        self._took[self._cycles % len(self._took)] = took
        self._cycles += 1
        self._silent_for += 1 + missed
        late = sum(self._overran)
        self.degraded = late >= self._limit
        if not self.degraded or self._silent_for < self._window:
            return None
        self._silent_for = 0
        return (
            f"{late} of the last {len(self._overran)} cycles took longer than {self._period * 1e3:.1f} ms; "
            f"p99 {self.p99 * 1e3:.1f} ms"
        )


class ScaledClock:
    """Seconds that pass `speed` times as fast as those of `clock`, from its present time on."""

    def __init__(self, clock: Clock, speed: float) -> None:
        if not speed > 0.0:
            raise ValueError(f"speed must be positive, got {speed}")
        self._clock = clock
        self._speed = speed
        self._origin = clock.now()

    def now(self) -> float:
        return self._origin + (self._clock.now() - self._origin) * self._speed

    def sleep_until(self, deadline: float) -> None:
        self._clock.sleep_until(self._origin + (deadline - self._origin) / self._speed)


class Mailbox:
    """Work that other threads want done in the thread of a loop, which alone may touch what it owns.

    The loop calls `serve` once a period; between `open` and `close` others call `ask`.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Callable[[], str], Future[str]]] = queue.SimpleQueue()
        self._open = False

    def open(self) -> None:
        """The loop is about to run."""
        self._open = True

    def close(self) -> None:
        """The loop has ended: whoever still waits is told."""
        self._open = False
        while not self._waiting.empty():
            self._waiting.get()[1].set_exception(ValueError("not active"))

    def ask(self, work: Callable[[], str], timeout: float = 2.0) -> str:
        """What `work` returns in the loop's thread. timeout: s.

        Raises the ValueError that `work` raises, ValueError while closed, TimeoutError when nobody serves.
        """
        if not self._open:
            raise ValueError("not active")
        answer: Future[str] = Future()
        self._waiting.put((work, answer))
        return answer.result(timeout)

    def serve(self) -> None:
        """Do what is waiting. Exceptions other than ValueError are the loop's own and end it."""
        while not self._waiting.empty():
            work, answer = self._waiting.get()
            try:
                answer.set_result(work())
            except ValueError as error:
                answer.set_exception(error)

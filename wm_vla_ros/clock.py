"""Injected time. Code that waits or ages takes a `Clock`; tests pass a `FakeClock` and never sleep."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds since an arbitrary origin."""

    def now(self) -> float:
        """Current time, seconds."""
        ...

    def sleep_until(self, deadline: float) -> None:
        """Return at `deadline` (seconds on this clock), or at once when it has passed."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC: unaffected when the wall clock is set, and shared by the processes of one machine."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def sleep_until(self, deadline: float) -> None:
        self._now = max(self._now, deadline)

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`. Raises ValueError when negative: a monotonic clock never goes back."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot advance by {seconds} s")
        self._now += seconds

"""Ticks may come late, but never in a burst: a driver that was stalled must not catch up at double speed."""

from __future__ import annotations

APART = 0.45  # of a tick: two writes are never closer, whatever was late before
_SLACK = 1.0  # of a tick: how much earlier than its time a tick may come, once


class Pace:
    """A token bucket of writes: one per `dt` on average, a tick of slack for a timer's jitter.

    A tick that is late by less than a period and the ones behind it are let through as long as they are
    `APART`, until the beat is kept again. Within any time T at most T / dt + 1 + slack writes happen, which
    is what bounds the speed when every write obeys the bound per tick.
    """

    def __init__(self, dt: float) -> None:
        self._dt = dt
        self._credit = 1.0 + _SLACK
        self._at = float("-inf")
        self._taken_at = float("-inf")

    def take(self, now: float) -> bool:
        """Whether a write may happen at `now`, seconds; if so it counts as done."""
        self._credit = min(self._credit + (now - self._at) / self._dt, 1.0 + _SLACK)
        self._at = now
        if self._credit < 1.0 - 1e-9 or now - self._taken_at < APART * self._dt - 1e-9:
            return False
        self._credit -= 1.0
        self._taken_at = now
        return True

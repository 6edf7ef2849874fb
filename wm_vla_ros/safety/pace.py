"""Ticks may come late, but never in a burst: a driver that was stalled must not catch up at double speed."""

from __future__ import annotations

_SLACK = 0.5  # of a tick: how much earlier than its time a tick may come, once


class Pace:
    """A token bucket of writes: one per `dt` on average, half a tick of slack for a timer's jitter.

    A late tick followed by one on the original beat is let through; two at once are not. Within any time T
    at most T / dt + 1 + slack writes happen, which is what bounds the speed when every write obeys the
    bound per tick.
    """

    def __init__(self, dt: float) -> None:
        self._dt = dt
        self._credit = 1.0 + _SLACK
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether a write may happen at `now`, seconds; if so it counts as done."""
        if self._at is not None:
            self._credit = min(self._credit + (now - self._at) / self._dt, 1.0 + _SLACK)
        self._at = now
        if self._credit < 1.0 - 1e-9:
            return False
        self._credit -= 1.0
        return True

"""The timeline of actions: what was applied, and what is already on its way to the motors."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import AppliedAction, FloatArray, Plan


@dataclass(frozen=True, slots=True)
class Span:
    """What was commanded over a span of time: actions (n, A) of one tick each, laid from the span's start.

    last: share of a tick, in (0, 1], for which the last action was in force.
    """

    actions: FloatArray
    last: float

    @property
    def ticks(self) -> float:
        """Length of the span in ticks."""
        return len(self.actions) - 1 + self.last if len(self.actions) else 0.0

    def translation(self) -> NDArray[np.float64]:
        """(3,) the whole commanded translation, action units."""
        if not len(self.actions):
            return np.zeros(3)
        moved = self.actions[:, :3].astype(np.float64)
        return moved[:-1].sum(axis=0) + self.last * moved[-1]


class ActionTimeline:
    """Action in force at any time of the last `window` seconds and of the near future.

    Applied actions are facts; planned ones stand in for the time that the driver has not reported yet. Past
    the last plan the arm holds: no motion, gripper as it was.
    """

    def __init__(self, dt: float, window: float = 2.0) -> None:
        self._dt = dt
        self._window = window
        self._stamps: list[float] = []
        self._actions: list[FloatArray] = []
        self._plans: list[Plan] = []

    @property
    def last_stamp(self) -> float | None:
        """Time of the newest applied action."""
        return self._stamps[-1] if self._stamps else None

    def next_tick(self, earliest: float) -> float:
        """Time of the driver's next tick that is not before `earliest`; both in seconds."""
        last = self.last_stamp
        if last is None:
            return earliest
        return last + self._dt * max(1.0, np.ceil((earliest - last) / self._dt - 1e-6))

    def applied(self, applied: AppliedAction) -> None:
        """Record what the driver did. A repeated or older stamp is put in its place, never twice."""
        at = bisect_right(self._stamps, applied.stamp)
        if at and self._stamps[at - 1] == applied.stamp:
            self._actions[at - 1] = applied.action
            return
        self._stamps.insert(at, applied.stamp)
        self._actions.insert(at, applied.action)
        oldest = bisect_right(self._stamps, self._stamps[-1] - self._window)
        del self._stamps[:oldest], self._actions[:oldest]

    def planned(self, plan: Plan) -> None:
        """Record what was just sent to the driver.

        From its start on it supersedes the plans before, as it does in the driver.
        """
        before = [one for one in self._plans if one.start < plan.start - 0.5 * self._dt]
        self._plans = [*before[-7:], plan]

    def at(self, time: float) -> FloatArray | None:
        """Action (A,) in force at `time` (seconds), or None before anything is known."""
        index = bisect_right(self._stamps, time)
        if index < len(self._stamps) or (index and time < self._stamps[-1] + 0.75 * self._dt):
            return self._actions[index - 1] if index else None
        for plan in reversed(self._plans):
            row = plan.index_at(time)
            if row is not None:
                return plan.actions[row]
        return self._hold() if index else None

    def last_two(self, time: float) -> FloatArray | None:
        """(2, A) in force in the two ticks before `time` (seconds), oldest first; None as `at`.

        Where only the newer is known, the older was the same.
        """
        before, last = (self.at(time - ticks * self._dt) for ticks in (1.5, 0.5))
        return None if last is None else np.stack([last if before is None else before, last])

    def between(self, start: float, end: float) -> Span | None:
        """What was in force from `start` to `end` seconds; None when the history begins later.

        Driver ticks begin where they begin, images come when they come: an action of the span is the mean
        over time of the two driver ticks that it overlaps, so that no share of a tick is lost or counted
        twice, however often a span is divided.
        """
        length = (end - start) / self._dt
        count = int(np.ceil(length - 1e-6))
        if count <= 0:
            return Span(np.zeros((0, 0), np.float32), 0.0)
        if not self._stamps:
            return None
        offset = (start - self._stamps[-1]) / self._dt
        first = np.floor(offset + 1e-6)
        phase = max(0.0, float(offset - first))
        phase = phase if phase > 1e-6 else 0.0
        middle = self._stamps[-1] + (first + 0.5) * self._dt
        rows = [self.at(middle + i * self._dt) for i in range(count + (phase > 0.0))]
        if any(row is None for row in rows):
            return None
        ticks = np.array(rows, dtype=np.float32)
        last = min(1.0, length - (count - 1))
        if not phase:
            return Span(ticks, last)
        shares = np.full((count, 1), phase, np.float32)
        shares[-1] = max(0.0, phase + last - 1.0) / last
        return Span(ticks[:-1] * (1.0 - shares) + ticks[1:] * shares, last)

    def _hold(self) -> FloatArray:
        action = np.zeros_like(self._actions[-1])
        action[6:] = self._actions[-1][6:]
        return action

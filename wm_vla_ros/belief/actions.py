"""The timeline of actions: what was applied, and what is already on its way to the motors."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import AppliedAction, FloatArray, Plan


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

    def between(self, start: float, end: float) -> NDArray[np.float32] | None:
        """Actions (n, A) of the whole ticks from `start` to `end`, each looked up at its middle.

        None when the history does not reach back to `start`.
        """
        count = max(0, round((end - start) / self._dt))
        rows = [self.at(start + (i + 0.5) * self._dt) for i in range(count)]
        if any(row is None for row in rows):
            return None
        return np.array(rows, dtype=np.float32) if rows else np.zeros((0, 0), np.float32)

    def _hold(self) -> FloatArray:
        action = np.zeros_like(self._actions[-1])
        action[6:] = self._actions[-1][6:]
        return action

"""Which action is in force now: plans are followed by time, and only while they are fresh.

Three ages are bounded, each for its own reason:
- max_age: from the observation a plan stems from to the plan's arrival. A camera frame may be 0.3 s late
  and planning and transport take up to 0.1 s, so 0.5 s lets every honest plan through and drops a plan
  of 1 s ago.
- max_ahead: from the arrival to the plan's last action. It bounds how long the arm moves on after its
  planner died.
- future: clocks of one machine agree to well under a millisecond, and a ROS stamp is converted once;
  50 ms covers that and refuses the rest.

Sequence numbers grow strictly. A planner that was restarted begins again at a small number: that is
accepted as a new run when the former one has been silent for `silence` seconds and the new plan stems
from an observation made after the last accepted plan arrived. Whatever was accepted before is older than
that, so a replay can never pass for a new run.
"""

from __future__ import annotations

from dataclasses import dataclass

from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Refused
from wm_vla_ros.types import FloatArray, Plan

# Plans that wait for their start beside the one in force: far more than a planner has under way.
_QUEUE = 32


@dataclass(frozen=True, slots=True)
class Freshness:
    """Bounds in seconds; the module's docstring says what each is for."""

    max_age: float = 0.5
    max_ahead: float = 2.0
    future: float = 0.05
    silence: float = 0.2


@dataclass(frozen=True, slots=True)
class InForce:
    """The action that holds now: row `row` of `plan`. action: (dim,) in the driver's own column order."""

    plan: Plan
    row: int
    action: FloatArray


class PlanWatch:
    """The plan that is followed and the one that takes over from it.

    Not thread-safe: the driver calls it under its lock.
    """

    def __init__(self, bounds: Freshness) -> None:
        self._bounds = bounds
        self._queue: list[tuple[Plan, FloatArray]] = []  # by start; the last that has started is in force
        self._sequence: int | None = None
        self._accepted_at = float("-inf")
        self._not_before = float("-inf")

    def check(self, plan: Plan, now: float) -> None:
        """Raises Refused when `plan` is not fresh at `now`: STALE, FUTURE, EXPIRED or REPLAY."""
        bounds = self._bounds
        age = now - plan.stamp
        if age > bounds.max_age:
            raise Refused(FaultCode.STALE, f"stems from {age:.3f} s ago, at most {bounds.max_age} s")
        if plan.stamp < self._not_before:
            raise Refused(FaultCode.STALE, "stems from before the driver was enabled")
        if age < -bounds.future:
            raise Refused(FaultCode.FUTURE, f"stamped {-age:.3f} s ahead")
        if plan.end <= now:
            raise Refused(FaultCode.EXPIRED, f"its last action ran out {now - plan.end:.3f} s ago")
        if plan.end - now > bounds.max_ahead:
            ahead = plan.end - now
            raise Refused(FaultCode.FUTURE, f"ends {ahead:.3f} s ahead, at most {bounds.max_ahead} s")
        if self._sequence is not None and plan.sequence <= self._sequence and not self._new_run(plan, now):
            raise Refused(FaultCode.REPLAY, f"sequence {plan.sequence} after {self._sequence}")

    def accept(self, plan: Plan, actions: FloatArray, now: float) -> None:
        """Follow `plan` from its start; until then the plans before go on. `check` has passed it."""
        self._sequence = plan.sequence
        self._accepted_at = now
        self._drop_superseded(now)
        before = [entry for entry in self._queue if entry[0].start < plan.start]
        self._queue = [*before[:_QUEUE], (plan, actions)]

    def in_force(self, now: float) -> InForce | None:
        """The action for `now`, or None when no plan covers it."""
        self._drop_superseded(now)
        if not self._queue:
            return None
        plan, actions = self._queue[0]
        row = plan.index_at(now)
        return None if row is None else InForce(plan, row, actions[row])

    def clear(self, not_before: float) -> None:
        """Forget every plan, and accept only those that stem from `not_before` (seconds) or later."""
        self._queue = []
        self._not_before = not_before

    def _drop_superseded(self, now: float) -> None:
        while len(self._queue) > 1 and self._queue[1][0].start <= now:
            del self._queue[0]

    def _new_run(self, plan: Plan, now: float) -> bool:
        silent = now - self._accepted_at >= self._bounds.silence
        return silent and plan.stamp > self._accepted_at

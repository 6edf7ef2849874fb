"""What every run of a fault case is judged by at the driver, whatever was injected."""

from __future__ import annotations

from wm_vla_ros.drivers.base import TickReport
from wm_vla_ros.faults.invariants import FAULT_WITHIN, unannounced
from wm_vla_ros.types import Fault, Plan

HOLD_WITHIN = 0.1  # s


class DriverJudge:
    """Follows one driver tick by tick.

    dt: control period, s. owner: the only source whose plans may move the arm. holds: s from the last valid
    action's write to the first write of each hold.
    """

    def __init__(self, dt: float, owner: str) -> None:
        self.holds: list[float] = []
        self._dt = dt
        self._owner = owner
        self._valid: dict[int, Plan] = {}
        self._interventions: list[tuple[float, str]] = []
        self._last_motion: float | None = None
        self._violations: list[str] = []

    def started(self) -> None:
        """The driver was started or enabled: it holds, and nothing has ended."""
        self._last_motion = None

    def may_follow(self, plan: Plan) -> None:
        """`plan` is a valid one."""
        self._valid[plan.sequence] = plan

    def intervened(self, at: float, code: str) -> None:
        """Something was refused at `at`, s: a Fault `code` must say so."""
        self._interventions.append((at, code))

    def took(self, report: TickReport) -> None:
        """One tick of the driver."""
        applied = report.applied
        if applied is None:
            return
        if "hold" in applied.changes:
            if self._last_motion is not None:
                self.holds.append(report.stamp - self._last_motion)
                self.intervened(report.stamp, "hold")
                self._last_motion = None
            return
        self._last_motion = report.stamp
        for change in applied.changes:
            self.intervened(report.stamp, change)
        plan = self._valid.get(applied.sequence)
        middle = report.stamp + 0.5 * self._dt
        if applied.source != self._owner or plan is None or plan.index_at(middle) is None:
            self._violations.append(
                f"I4 action of plan {applied.sequence} of {applied.source!r} executed at {report.stamp:.4f} s"
            )

    def verdict(self, faults: list[Fault], now: float) -> list[str]:
        """What was wrong, with all faults up to `now`, s. What is younger than 0.2 s may yet be told."""
        due = [each for each in self._interventions if each[0] <= now - FAULT_WITHIN]
        late = [hold for hold in self.holds if hold > HOLD_WITHIN + 1e-9]
        return [
            *self._violations,
            *unannounced(due, faults),
            *(f"HOLD {hold * 1e3:.1f} ms after the last valid action" for hold in late),
        ]

"""The invariants of the driver, sampled where commands leave the process: at the backend's write call.

I1 finite. I2 inside the joint limits less the margin. I3 |dq| <= v_max * dt, the acceleration bound, and no
burst of writes. I4 one writer. I5 no motion while latched. I6 every intervention publishes a named Fault
within 200 ms. The arithmetic is written out here on its own, so that a mistake in the gate is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from wm_vla_ros.clock import Clock, FakeClock
from wm_vla_ros.drivers.base import Backend
from wm_vla_ros.safety.limits import ArmLimits, Joints
from wm_vla_ros.types import AppliedAction, Fault, RobotState, Severity

TOLERANCE = 1e-9  # rad, and rad per tick
FAULT_WITHIN = 0.2  # s
# How far two stamps of one moment may differ after going through ROS time, s.
_ROS_TIMING = 1e-3


@dataclass
class WriteLog:
    """What was written: times (k,) s and targets, each (n,) rad."""

    times: list[float] = field(default_factory=list)
    targets: list[Joints] = field(default_factory=list)

    def array(self) -> Joints:
        """(k, n) rad."""
        return np.array(self.targets)


class InvariantProbe:
    """A backend that passes everything on and judges every write first. violations: what was wrong.

    timing: how exactly the clock tells the times of the writes, in ticks.
    """

    def __init__(self, backend: Backend, spec: ArmLimits, clock: Clock, timing: float = 1e-6) -> None:
        self.joint_names = backend.joint_names
        self.log = WriteLog()
        self.violations: list[str] = []
        self.overshoot = 0.0
        self._backend = backend
        self._clock = clock
        self._timing = timing
        self._dt = spec.dt
        self._lower = np.asarray(spec.lower) + spec.limit_margin
        self._upper = np.asarray(spec.upper) - spec.limit_margin
        self._velocity = np.asarray(spec.velocity_limit)
        self._acceleration = np.asarray(spec.acceleration_limit)
        self._measured: Joints = np.zeros(len(self.joint_names))
        self._last: Joints | None = None
        self._last_step: Joints = np.zeros(len(self.joint_names))
        self._last_time = -np.inf
        self._latched_at: float | None = None

    def enabled(self) -> None:
        """The driver has just been enabled: the next write is judged from the measured pose, at rest."""
        self._last = None
        self._latched_at = None

    def latched(self) -> None:
        """The e-stop was pressed now."""
        if self._latched_at is None:
            self._latched_at = self._clock.now()

    def read(self) -> RobotState:
        state = self._backend.read()
        if np.isfinite(state.position).all():
            self._measured = state.position
        return state

    def write(self, target: Joints) -> None:
        now = self._clock.now()
        target = np.array(target)
        for broken in self._judge(target, now):
            self.violations.append(f"{broken} at {now:.4f} s")
        self._backend.write(target)  # may raise: then the arm was not sent there
        start = self._measured if self._last is None else self._last
        self._last, self._last_step, self._last_time = target, target - start, now
        self.log.times.append(now)
        self.log.targets.append(target)

    def close(self) -> None:
        self._backend.close()

    def _judge(self, target: Joints, now: float) -> list[str]:
        if not np.isfinite(target).all():
            return [f"I1 target {target}"]
        broken = []
        excess = float(np.max(np.maximum(self._lower - target, target - self._upper)))
        self.overshoot = max(self.overshoot, excess)
        if excess > TOLERANCE:
            broken.append(f"I2 {excess:.3g} rad past a limit")
        start = self._measured if self._last is None else self._last
        last_step = np.zeros_like(target) if self._last is None else self._last_step
        step = target - start
        if np.any(np.abs(step) > self._velocity * self._dt + TOLERANCE):
            broken.append(f"I3 velocity: step {step}")
        # A step that was given several ticks' time was so much slower.
        gap = (now - self._last_time) / self._dt
        ticks = {max(1.0, float(np.floor(gap + error))) for error in (-self._timing, self._timing)}
        changes = [np.abs(step - last_step / count) / self._dt for count in ticks]
        if all(np.any(change > self._acceleration * self._dt + TOLERANCE / self._dt) for change in changes):
            broken.append(f"I3 acceleration: step {step} after {last_step}")
        # Two ticks on the beat that jitter towards each other, but never two at once.
        if now - self._last_time < 0.4 * self._dt:
            broken.append(f"I3 burst: {now - self._last_time:.4f} s after the write before")
        late = self._latched_at is not None and now - self._latched_at > self._dt
        if late and np.any(np.abs(step) > TOLERANCE):
            broken.append("I5 motion while latched")
        return broken


class _Record:
    """The arm that a record of targets was written to: nothing more is known of it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.joint_names = names

    def read(self) -> RobotState:
        raise RuntimeError("a record has no measurements")

    def write(self, target: Joints) -> None:
        """Was written long ago."""

    def close(self) -> None:
        """Nothing to release."""


def judge_record(applied: Sequence[AppliedAction], spec: ArmLimits) -> list[str]:
    """I1 to I3 over what a driver says it wrote, in order. The first two set pose and speed, unjudged.

    Stamps went through ROS time, which costs them some microseconds.
    """
    if not applied:
        return []
    clock = FakeClock(applied[0].stamp)
    probe = InvariantProbe(_Record(applied[0].joint_names), spec, clock, timing=0.02)
    for i, each in enumerate(applied):
        clock.sleep_until(each.stamp)
        probe.write(each.joint_positions)
        if i == 1:
            probe.violations.clear()
    return probe.violations


def judge_running(
    applied: Sequence[AppliedAction], faults: Sequence[Fault], spec: ArmLimits, until: float = np.inf
) -> list[str]:
    """I1 to I3 as `judge_record`, and I6 for what was changed before `until`, s: its fault must have come."""
    ready = [each for each in interventions(applied) if each[0] < until]
    return judge_record(applied, spec) + unannounced(ready, list(faults), _ROS_TIMING)


def interventions(applied: Sequence[AppliedAction]) -> list[tuple[float, str]]:
    """(time, fault code or "hold") of every change, and of every beginning of a hold."""
    found = []
    for before, each in pairwise(applied):
        for change in each.changes:
            if change != "hold" or "hold" not in before.changes:
                found.append((each.stamp, change))
    return found


def unannounced(
    interventions: list[tuple[float, str]], faults: list[Fault], timing: float = 1e-9
) -> list[str]:
    """I6: the interventions (time, fault code or "hold") that no Fault followed in time.

    A hold is announced by any fault of severity ERROR; it may be published in the tick itself.
    timing: how exactly the two stamps agree, s.
    """
    missing = []
    for when, code in interventions:
        announced = any(
            -timing <= fault.stamp - when <= FAULT_WITHIN
            and (fault.code == code or (code == "hold" and fault.severity >= Severity.ERROR))
            for fault in faults
        )
        if not announced:
            missing.append(f"I6 {code} at {when:.4f} s was not announced within {FAULT_WITHIN} s")
    return missing

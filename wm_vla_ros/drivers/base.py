"""One arm's driver without ROS: plans in, gated joint targets out. The same core runs in the driver node and,
on a FakeClock, in the in-process evaluation.

A tick reads the arm, takes the action in force, maps it to joints, passes it through the gate and writes it.
Whenever one of these fails the arm holds; while the e-stop is latched nothing is written at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import Clock
from wm_vla_ros.safety.arbiter import Arbiter
from wm_vla_ros.safety.estop import EStop, LatchStoreError
from wm_vla_ros.safety.faults import FaultCode, FaultReporter
from wm_vla_ros.safety.gate import Gate, Refused
from wm_vla_ros.safety.hold import Hold
from wm_vla_ros.safety.limits import ArmLimits, JointLimits, Joints
from wm_vla_ros.safety.pace import Pace
from wm_vla_ros.safety.plan_check import executable_actions
from wm_vla_ros.safety.watchdog import Freshness, InForce, PlanWatch
from wm_vla_ros.sensing.joints import jumped
from wm_vla_ros.types import EE_DELTA, AppliedAction, Fault, Plan, RobotState, Severity

SOURCE = "driver"


class Backend(Protocol):
    """One arm behind position servos. `write` is the only place where commands leave the process."""

    @property
    def joint_names(self) -> tuple[str, ...]: ...

    def read(self) -> RobotState:
        """Measured joints, in joint_names order, stamped on the driver's clock."""
        ...

    def write(self, target: Joints) -> None:
        """Joint targets (n,) rad, in joint_names order."""
        ...

    def close(self) -> None: ...


class JointMap(Protocol):
    """Commanded pose of the arm: what `wm_vla_ros.robots.action_map.ActionMap` is."""

    def reset(self, measured: Joints) -> None: ...

    def step(self, action: NDArray[np.float32], measured: Joints) -> Joints: ...

    def commit(self, applied: Joints) -> NDArray[np.float32]: ...


class DriverState(StrEnum):
    """DISABLED: nothing is written. HOLD: braking or standing. ACTIVE: following a plan. LATCHED: e-stop."""

    DISABLED = "disabled"
    HOLD = "hold"
    ACTIVE = "active"
    LATCHED = "latched"


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """Settings of the safety logic, seconds.

    measurement_age: oldest joint reading to move on. With one control period more, which may pass before a
    tick finds it too old, it is less than the 0.1 s within which the arm holds.
    """

    freshness: Freshness = field(default_factory=Freshness)
    measurement_age: float = 0.07
    fault_period: float = 0.1
    latch_file: Path | None = None


@dataclass(frozen=True, slots=True)
class TickReport:
    """One tick. applied: what was written, or None. row: of the plan in force, or None without one."""

    stamp: float
    state: DriverState
    applied: AppliedAction | None
    row: int | None = None


class _Holding(Exception):
    """The tick cannot follow its plan; `code` says why."""

    def __init__(self, code: FaultCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class DriverCore:
    """Follows the plans of one owner by time.

    `accept`, `estop`, `set_estop_input`, `reset`, `enable` and `disable` may be called from any thread;
    `tick` from one. on_fault and on_applied are called from whichever thread caused them, and may call
    back. `estop` takes no lock: it works while a tick is stuck.
    """

    def __init__(
        self,
        spec: ArmLimits,
        action_map: JointMap,
        backend: Backend,
        clock: Clock,
        on_fault: Callable[[Fault], None],
        on_applied: Callable[[AppliedAction], None],
        owner: str = "mpc",
        latched: bool = False,
        config: DriverConfig | None = None,
    ) -> None:
        """Raises ValueError when the backend's joints are not the spec's, or its limits leave no room."""
        config = config or DriverConfig()
        self._limits = JointLimits.of(spec)
        if tuple(backend.joint_names) != self._limits.names:
            raise ValueError(f"the backend has joints {backend.joint_names}, the spec {self._limits.names}")
        self._map = action_map
        self._backend = backend
        self._clock = clock
        self._on_applied = on_applied
        self._config = config
        self._faults = FaultReporter(on_fault, config.fault_period)
        self._estop = EStop(config.latch_file, latched)
        self._arbiter = Arbiter(owner, config.freshness.silence)
        self._watch = PlanWatch(config.freshness)
        self._gate = Gate(self._limits)
        self._pace = Pace(self._limits.dt)
        self._enabled = False
        self._hold: Hold | None = None
        self._measured: Joints = np.zeros(len(self._limits.names))
        self._last_read: RobotState | None = None
        # Guards everything above but the latch. Re-entrant: a callback may hand in the next plan.
        self._lock = threading.RLock()

    @property
    def state(self) -> DriverState:
        if self._estop.latched:
            return DriverState.LATCHED
        if not self._enabled:
            return DriverState.DISABLED
        return DriverState.ACTIVE if self._hold is None else DriverState.HOLD

    @property
    def estop_reason(self) -> str:
        """Who latched the e-stop and why; empty when it is not latched."""
        return self._estop.reason

    def accept(self, plan: Plan, writer: str = "") -> None:
        """Take `plan` over from its start, or refuse it whole with a Fault.

        writer: identity of the publisher, where the transport knows it.
        """
        now = self._clock.now()
        try:
            with self._lock:
                self._check_ready()
                self._arbiter.check(plan.source, writer, now)
                actions = executable_actions(plan, self._limits)
                self._watch.check(plan, now)
                self._watch.accept(plan, actions, now)
                self._arbiter.heard(writer, now)
        except Refused as refusal:
            text = f"plan {plan.sequence} of {plan.source[:64]!r} refused: {refusal}"
            self._faults.report(now, refusal.code, Severity.WARNING, SOURCE, text)

    def tick(self) -> TickReport:
        """One control period. Never raises for what comes from a plan or from the arm."""
        with self._lock:
            now = self._clock.now()
            self._faults.flush(now)
            if self._estop.latched or not self._enabled:
                return TickReport(now, self.state, None)
            if not self._pace.take(now):
                text = "ticks came faster than the robot's period: one was left out"
                self._faults.report(now, FaultCode.EARLY, Severity.WARNING, SOURCE, text)
                return TickReport(now, self.state, None)
            try:
                self._measured = self._measure(now)
                force = self._in_force(now)
                position, changes = self._follow(force, now)
                self._hold = None
            except _Holding as cause:
                force = None
                position, changes = self._holding(cause, now), ("hold",)
            applied = self._write(position, changes, force, now)
            return TickReport(now, self.state, applied, force.row if force else None)

    def estop(self, source: str, text: str) -> None:
        """Latch: nothing is written any more from the next tick on, until `reset` and `enable`."""
        try:
            self._estop.latch(source, text)
        except LatchStoreError as error:
            self._latch_store_failed(error)
        self._faults.report(self._clock.now(), FaultCode.ESTOP, Severity.FATAL, source, text)

    def set_estop_input(self, source: str, pressed: bool) -> None:
        """Follow a physical button: pressing it is `estop`, releasing it only makes `reset` possible."""
        try:
            self._estop.set_input(source, pressed)
        except LatchStoreError as error:
            self._latch_store_failed(error)
        if pressed:
            self._faults.report(self._clock.now(), FaultCode.ESTOP, Severity.FATAL, source, "pressed")

    def reset(self) -> None:
        """Release the latch; the driver is then disabled. Raises ValueError while a button is pressed."""
        with self._lock:
            self._enabled = False
            try:
                self._estop.reset()
            except LatchStoreError as error:
                self._latch_store_failed(error)
                raise ValueError(f"still latched: {error}") from error

    def enable(self) -> None:
        """Start from the measured pose, holding until a plan made from now on arrives.

        Does nothing when enabled already. Raises ValueError (Refused) while latched, or when the measured
        pose cannot be the start of a motion.
        """
        with self._lock:
            if self._estop.latched:
                raise Refused(FaultCode.LATCHED, f"e-stop latched ({self._estop.reason}): reset it first")
            if self._enabled:
                return
            now = self._clock.now()
            self._last_read = None  # wherever it was before
            try:
                self._measured = self._measure(now)
            except _Holding as cause:
                raise Refused(cause.code, str(cause)) from cause
            self._gate.sync(self._measured, now)
            self._map.reset(self._gate.position)
            self._watch.clear(not_before=now)
            self._hold = Hold(self._gate)
            self._enabled = True

    def disable(self) -> None:
        """Write nothing any more; the servos keep the last target. Plans are dropped."""
        with self._lock:
            self._enabled = False

    def _check_ready(self) -> None:
        if self._estop.latched:
            raise Refused(FaultCode.LATCHED, f"e-stop latched ({self._estop.reason})")
        if not self._enabled:
            raise Refused(FaultCode.DISABLED, "the driver is not enabled")

    def _measure(self, now: float) -> Joints:
        try:
            state = self._backend.read()
        except Exception as error:  # whatever a bus or a simulator raises, the arm must hold
            raise _Holding(FaultCode.BACKEND, f"read failed: {error!r}") from error
        if state.names != self._limits.names:
            missing = [name for name in self._limits.names if name not in state.names]
            what = f"without {', '.join(missing)}" if missing else f"of joints {state.names}"
            raise _Holding(FaultCode.MEASUREMENT, f"a measurement {what}")
        bad = ~(np.isfinite(state.position) & np.isfinite(state.velocity))
        if bad.any():
            raise _Holding(FaultCode.MEASUREMENT, f"not finite: {self._limits.describe(bad)}")
        age = now - state.stamp
        if not abs(age) <= self._config.measurement_age:
            raise _Holding(FaultCode.MEASUREMENT, f"measured {age:.3f} s ago")
        last, self._last_read = self._last_read, state
        off = jumped(last or state, state, self._limits.step / self._limits.dt)
        if off.any():
            # Whatever was planned was planned for the arm as it was measured before.
            self._watch.clear(not_before=now)
            raise _Holding(FaultCode.JOINT_JUMP, f"suddenly elsewhere: {self._limits.describe(off)}")
        return state.position

    def _in_force(self, now: float) -> InForce:
        # A write holds for one period: the action of its middle is the one that overlaps it most. Taken at
        # its beginning, a microsecond of jitter would decide between two rows whenever a plan starts on a
        # tick, which is where planners start them.
        force = self._watch.in_force(now + 0.5 * self._limits.dt)
        if force is None:
            raise _Holding(FaultCode.STARVED, "no valid action in force")
        return force

    def _follow(self, force: InForce, now: float) -> tuple[Joints, tuple[str, ...]]:
        if self._hold is not None:
            # The command stands where the hold brought it: that, not the past, is where motion starts.
            self._map.reset(self._gate.position)
        try:
            if force.plan.action_space == EE_DELTA:
                target = self._map.step(force.action, self._measured)
                position, limited = self._gate.follow(target, now)
            else:
                position, limited = self._gate.approach(force.action.astype(np.float64), now)
        except Refused as refusal:
            raise _Holding(refusal.code, str(refusal)) from refusal
        except ValueError as error:
            raise _Holding(FaultCode.UNREACHABLE, str(error)) from error
        for change in limited:
            text = f"{self._limits.describe(change.joints)} in plan {force.plan.sequence}, action {force.row}"
            self._faults.report(now, change.code, Severity.WARNING, SOURCE, text)
        return position, tuple(change.code.value for change in limited)

    def _holding(self, cause: _Holding, now: float) -> Joints:
        # A hold that goes on for want of a plan is no news; every other cause is repeated while it lasts.
        if self._hold is None or cause.code != FaultCode.STARVED:
            self._faults.report(now, cause.code, Severity.ERROR, SOURCE, str(cause))
        if self._hold is None:
            self._hold = Hold(self._gate)
        return self._hold.step(self._measured, now)

    def _write(
        self, position: Joints, changes: tuple[str, ...], force: InForce | None, now: float
    ) -> AppliedAction | None:
        if self._estop.latched:  # pressed while this tick was computing
            return None
        try:
            self._backend.write(position)
        except Exception as error:  # as for read
            self._gate.undo()
            self._faults.report(now, FaultCode.BACKEND, Severity.ERROR, SOURCE, f"write failed: {error!r}")
            return None
        applied = AppliedAction(
            stamp=now,
            sequence=force.plan.sequence if force else -1,
            source=force.plan.source if force else SOURCE,
            action=self._map.commit(position),
            joint_names=self._limits.names,
            joint_positions=position,
            changes=changes,
        )
        self._on_applied(applied)
        return applied

    def _latch_store_failed(self, error: LatchStoreError) -> None:
        now = self._clock.now()
        self._faults.report(now, FaultCode.LATCH_STORE, Severity.ERROR, SOURCE, f"not kept: {error}")

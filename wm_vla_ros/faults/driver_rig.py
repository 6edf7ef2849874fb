"""One seeded run of a fault case: the real driver core on an arm in memory, a planner, and a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.base import DriverConfig, DriverCore, DriverState, JointMap, TickReport
from wm_vla_ros.drivers.mock import MockActionMap, MockBackend, MockSpec
from wm_vla_ros.faults.driver_judge import DriverJudge
from wm_vla_ros.faults.invariants import InvariantProbe
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.limits import ArmLimits, Joints
from wm_vla_ros.types import EE_ACTION_DIM, JOINT_POSITION, AppliedAction, Fault, FloatArray, Plan

OWNER = "mpc"
HORIZON = 10


@dataclass(frozen=True)
class World:
    """An arm and its action map. home: (n,) rad. make_map: a fresh map, or a shared one that is reset."""

    name: str
    spec: ArmLimits
    home: Joints
    make_map: Callable[[], JointMap]


def mock_world() -> World:
    """The six-joint arm that exists nowhere."""
    spec = MockSpec()
    return World("mock", spec, spec.home, lambda: MockActionMap(spec))


def robot_world(name: str) -> World:
    """A real robot's spec and inverse kinematics, on servos in memory. Raises ValueError as load_robot."""
    from wm_vla_ros.robots.action_map import ActionMap
    from wm_vla_ros.robots.spec import load_robot

    spec = load_robot(name)
    shared = ActionMap(spec)  # building one takes longer than a run
    return World(name, spec, spec.home, lambda: shared)


class DriverRig:
    """A driver that is enabled and holds at the world's home pose, and a planner that moves it smoothly.

    rng: for the injection. Everything else depends on the seed alone, so `twin` repeats the same run
    without it. violations: what broke; empty in a run that passed.
    """

    def __init__(self, world: World, seed: int, latch_file: Path | None = None) -> None:
        self.world = world
        self.seed = seed
        self.rng = np.random.default_rng([seed, 1])
        self._own = np.random.default_rng([seed, 2])
        self._planner = np.random.default_rng([seed, 3])
        self._timer = np.random.default_rng([seed, 4])
        self.clock = FakeClock(100.0 + float(self._own.uniform(0, 10)))
        self.faults: list[Fault] = []
        self.applied: list[AppliedAction] = []
        self.violations: list[str] = []
        self.judge = DriverJudge(world.spec.dt, OWNER)
        self.backend = MockBackend(world.spec, self.clock, world.home, lag=float(self._own.uniform(0, 0.5)))
        self.probe = InvariantProbe(self.backend, world.spec, self.clock)
        self._latch_file = latch_file
        self._jitter = float(self._own.choice([0.0, 0.002]))
        self._amplitude = self._own.uniform(0.05, 0.2, EE_ACTION_DIM) * self._own.choice(
            [-1, 1], EE_ACTION_DIM
        )
        self._frequency = self._own.uniform(0.4, 1.0, EE_ACTION_DIM)
        self._origin = self.clock.now()
        self._ticks = 0
        self._sequence = 0
        self.core = self._driver()
        self.enable()
        self.tick(int(self._own.integers(3, 8)))

    @property
    def spec(self) -> ArmLimits:
        return self.world.spec

    @property
    def now(self) -> float:
        return self.clock.now()

    @property
    def holds(self) -> list[float]:
        """s from the last valid action to each hold."""
        return self.judge.holds

    def twin(self) -> DriverRig:
        """The same run from its start, for a comparison without the injection."""
        return DriverRig(self.world, self.seed)

    def restart_driver(self) -> None:
        """The driver's process is started again on the same arm and the same latch file."""
        self.core = self._driver()
        self.judge.started()

    def enable(self) -> None:
        """Enable the driver; raises ValueError as DriverCore.enable."""
        self.core.enable()
        self.probe.enabled()
        self.judge.started()

    def estop(self) -> None:
        """Press the e-stop by its service."""
        self.core.estop("operator", "pressed in a fault case")
        self.note_latched()

    def note_latched(self) -> None:
        """The e-stop was pressed by now: no motion may follow."""
        self.probe.latched()
        self.judge.intervened(self.now, FaultCode.ESTOP)

    def smooth(self, rows: int = HORIZON) -> FloatArray:
        """(rows, 7) the motion planned for the ticks from now on; plans of different ticks agree."""
        times = self.now - self._origin + np.arange(rows)[:, None] * self.spec.dt
        actions = self._amplitude * np.sin(2 * np.pi * self._frequency * times)
        actions[:, 6] = 0.5 + 0.4 * np.sin(times[:, 0])
        return actions.astype(np.float32)

    def plan(self, actions: NDArray | None = None, **changes: object) -> Plan:
        """The next plan: of a fresh observation, starting now. changes: fields that differ."""
        self._sequence += 1
        fields: dict[str, object] = {
            "stamp": self.now - float(self._planner.uniform(0.0, 0.04)),
            "sequence": self._sequence,
            "source": OWNER,
            # A quarter of a tick early, so that a timer's jitter never decides which row is in force.
            "start": self.now - 0.25 * self.spec.dt,
            "dt": self.spec.dt,
            "actions": self.smooth() if actions is None else actions,
        }
        return Plan(**{**fields, **changes})  # type: ignore[arg-type]

    def joint_plan(self, target: Joints, rows: int = HORIZON, **changes: object) -> Plan:
        """A plan that asks for the joint pose `target` (n,) rad in every row."""
        changes = {"action_space": JOINT_POSITION, "action_names": self.spec.joint_names, **changes}
        return self.plan(np.tile(target, (rows, 1)), **changes)

    def send(self, plan: Plan, refused: FaultCode | None = None, writer: str = "planner") -> None:
        """Give the driver `plan`. refused: the cause it must be refused for; None when it is a valid one."""
        before = len(self.faults)
        if refused is None:
            self.judge.may_follow(plan)
        else:
            self.judge.intervened(self.now, refused)
        self.core.accept(plan, writer)
        if refused is None and len(self.faults) > before:
            self.violations.append(f"a valid plan was answered with {self.faults[-1].code}")

    def tick(self, count: int = 1) -> TickReport:
        """`count` driver ticks on a timer that jitters; returns the last one's report."""
        for _ in range(count):
            self._ticks += 1
            beat = self._origin + self._ticks * self.spec.dt
            self.clock.sleep_until(beat + float(self._timer.uniform(0, 1)) * self._jitter)
            report = self._tick_now()
        return report

    def stream(self, ticks: int) -> None:
        """The planner sends a plan before every tick."""
        for _ in range(ticks):
            self.send(self.plan())
            self.tick()

    def warm_up(self) -> None:
        """Move for a while, up to a moment that depends on the seed."""
        self.stream(int(self._own.integers(10, 40)))

    def starve(self) -> None:
        """No plan comes any more: the arm must hold, and stand where it was measured."""
        self.tick(HORIZON + 60)
        if self.core.state != DriverState.HOLD:
            self.violations.append(f"without a plan the driver is {self.core.state}, not holding")
        targets = self.probe.log.array()
        if np.any(np.abs(targets[-1] - targets[-2]) > 1e-9):
            self.violations.append("the hold has not come to rest after 1.2 s")
        gap = float(np.max(np.abs(targets[-1] - self.backend.read().position)))
        if gap > 1e-3:
            self.violations.append(f"the hold stands {gap:.4f} rad from the measured pose")

    def end_either_way(self) -> None:
        """The planner recovers in half of the runs and falls silent in the others."""
        if self.rng.random() < 0.5:
            self.stream(10)
            self.expect(self.core.state == DriverState.ACTIVE, "did not follow the valid plans afterwards")
        self.starve()

    def send_bad(self, plan: Plan, code: FaultCode) -> None:
        """Give the driver a plan that must be refused as a whole, and flagged by the next tick."""
        sent = self.now
        self.send(plan, refused=code)
        self.tick()
        self.expect(self.flagged(code, sent), f"{code} was not flagged within one cycle")

    def corner(self) -> NDArray[np.float64]:
        """(7,) a random corner of the action space."""
        corner = self.rng.choice([-1.0, 1.0], EE_ACTION_DIM)
        corner[6] = self.rng.choice([0.0, 1.0])
        return corner

    def expect(self, condition: bool, text: str) -> None:
        """A violation `text` unless `condition`."""
        if not condition:
            self.violations.append(text)

    def flagged(self, code: FaultCode, since: float) -> bool:
        """Whether a Fault `code` was published between `since` and now."""
        return any(fault.code == code and fault.stamp >= since - 1e-9 for fault in self.faults)

    def writes_equal(self, other: DriverRig) -> bool:
        """Both runs wrote the same targets at the same times."""
        log, others = self.probe.log, other.probe.log
        return log.times == others.times and np.array_equal(log.array(), others.array())

    def farthest_from(self, other: DriverRig) -> float:
        """Greatest distance of a target to the other run's at the same tick, rad; inf if counts differ."""
        mine, others = self.probe.log.array(), other.probe.log.array()
        return float(np.max(np.abs(mine - others))) if mine.shape == others.shape else np.inf

    def refusal_of(self, plan: Plan) -> FaultCode:
        """What a plan whose stamp is an hour off must be refused for."""
        return FaultCode.STALE if plan.stamp < self.now else FaultCode.FUTURE

    def finish(self) -> None:
        """Let the last faults out, and judge the whole run."""
        self.tick(int(0.3 / self.spec.dt))
        self.violations += self.probe.violations
        self.violations += self.judge.verdict(self.faults, self.now)

    def _driver(self) -> DriverCore:
        return DriverCore(
            self.spec,
            self.world.make_map(),
            self.probe,
            self.clock,
            self.faults.append,
            self.applied.append,
            OWNER,
            config=DriverConfig(latch_file=self._latch_file),
        )

    def _tick_now(self) -> TickReport:
        report = self.core.tick()
        self.judge.took(report)
        return report

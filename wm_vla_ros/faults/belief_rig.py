"""One seeded run of a fault case above the driver: joints, proprioception, belief, planner, virtual time.

The chain is the deployed one, from joint measurements through goals and plans to the driver's writes. The arm
does what it is told, the robot's own inverse kinematics included, and the world model knows exactly that:
whatever goes wrong is the injection's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.base import DriverCore, DriverState
from wm_vla_ros.drivers.mock import MockBackend
from wm_vla_ros.faults.driver_judge import DriverJudge
from wm_vla_ros.faults.invariants import InvariantProbe
from wm_vla_ros.faults.tip_model import TipModel
from wm_vla_ros.goals.chunk_rollout import chunk_rollout
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import SOURCE, MpcCore, TickResult
from wm_vla_ros.realtime import OverrunWatch
from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.safety.faults import FaultCode, FaultReporter
from wm_vla_ros.sensing.joints import JointStream
from wm_vla_ros.sensing.proprio_history import ProprioHistory
from wm_vla_ros.types import (
    ActionChunk,
    AppliedAction,
    Fault,
    LatentGoal,
    Observation,
    Plan,
    RobotState,
    Severity,
)

PHASE = 0.004  # s from the driver's tick to the planner's
FRAME_TICKS = 2  # control ticks per image


@dataclass(frozen=True)
class PolicyRoute:
    """What the slow policy sends. target: (3,) metres, where it leads."""

    chunk: ActionChunk
    goal: LatentGoal
    target: NDArray[np.float64]

    def with_goal(self, **changes: object) -> PolicyRoute:
        """The same with other fields in its goal."""
        return replace(self, goal=replace(self.goal, **changes))  # type: ignore[arg-type]


class BeliefWorld:
    """What the runs of a campaign share: the robot and its kinematics."""

    def __init__(self, robot: str) -> None:
        self.name = f"{robot} belief"
        self.spec = load_robot(robot)
        self.kinematics = Kinematics(self.spec)


class BeliefRig:
    """An arm at rest at home, enabled, and seen by a camera; `aim` sends it somewhere.

    rng: for the injection; everything else depends on the seed alone, so `twin` repeats the run without it.
    deliver: what the joint measurements of one tick become on their way; an injection replaces it.
    planning_time: s that a cycle of the planner takes; likewise. results: of the planner's cycles, in order.
    measured_at: stamp of the newest joint measurement that the planner's side has taken, s.
    violations: what broke.
    """

    def __init__(self, world: BeliefWorld, seed: int) -> None:
        spec = world.spec
        self.world, self.spec, self.seed = world, spec, seed
        self.rng = np.random.default_rng([seed, 1])
        self.routes = np.random.default_rng([seed, 2])
        self.clock = FakeClock(1.0)
        self.model = TipModel(spec)
        self.core = MpcCore(self.model, spec, MpcConfig(), seed, timer=lambda: 0.0)  # type: ignore[arg-type]
        self.deliver: Callable[[list[RobotState]], list[RobotState]] = lambda states: states
        self.planning_time: Callable[[], float] = lambda: 0.003
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.results: list[TickResult] = []
        self.stamps: list[float] = []
        self.frames = 0
        self.backend = MockBackend(spec, self.clock, np.array(spec.home, dtype=np.float64))
        self.probe = InvariantProbe(self.backend, spec, self.clock)
        self.judge = DriverJudge(spec.dt, SOURCE)
        self.driver = DriverCore(
            spec, ActionMap(spec), self.probe, self.clock, self.faults.append, self._report, SOURCE
        )
        self._arm = self.backend.read  # as it is, whatever an injection makes of the driver's reads
        self._stream = JointStream(spec)
        self._history = ProprioHistory(world.kinematics)
        self._reporter = FaultReporter(self.faults.append)
        self._overruns = OverrunWatch(spec.dt)
        self.measured_at = -np.inf
        self._ticks = 0
        self._sequence = 0
        self._between: RobotState | None = None  # the joints half a tick ago
        self._underway: list[tuple[float, Plan]] = []  # (when it is published, plan)
        self._busy_until = -np.inf
        self._missed = 0
        self.driver.enable()
        self.probe.enabled()
        self.tick(5)

    @property
    def now(self) -> float:
        """Time of the next driver tick, seconds."""
        return 1.0 + self._ticks * self.spec.dt

    @property
    def tip(self) -> NDArray[np.float64]:
        """(3,) metres, where the arm is."""
        return self.world.kinematics.tip_position(self._arm().position)

    @property
    def planning(self) -> bool:
        """Whether the planner's last cycle gave a plan."""
        return self.results[-1].plan is not None

    def twin(self) -> BeliefRig:
        """The same run from its start, for a comparison without the injection."""
        return BeliefRig(self.world, self.seed)

    def route(self, ticks: int = 60) -> PolicyRoute:
        """A goal 3 to 6 cm away, with the chunk of `ticks` that leads there from where the arm is now."""
        way = self.routes.uniform(-1.0, 1.0, 3) * [1.0, 1.0, 0.5]
        way *= self.routes.uniform(0.03, 0.06) / np.linalg.norm(way)
        steps = int(np.ceil(np.linalg.norm(way) / 0.003))
        actions = np.zeros((ticks, 7), np.float32)
        actions[:steps, :3] = way / steps / self.spec.translation_scale
        self._sequence += 1
        chunk = ActionChunk(self.now, self._sequence, "ee_delta", self.spec.dt, actions)
        goal = chunk_rollout(self.model, chunk, self.model.latent(self.tip), "go")  # type: ignore[arg-type]
        return PolicyRoute(chunk, goal, self.tip + way)

    def offer(self, route: PolicyRoute, refused: bool = False) -> None:
        """Chunk and goal arrive, as the planner's node takes them. refused: whether the goal must be."""
        if refused:
            self.judge.intervened(self.now, FaultCode.GOAL_REFUSED)
        self.core.on_chunk(route.chunk)
        try:
            self.core.on_goal(route.goal, self.now)
        except ValueError as error:
            self._warn(self.now, FaultCode.GOAL_REFUSED, f"goal {route.goal.sequence}: {error}")
            self.expect(refused, f"a valid goal was refused: {error}")
        else:
            self.expect(not refused, f"goal {route.goal.sequence} was taken")

    def aim(self, ticks: int = 60) -> PolicyRoute:
        """Send the arm somewhere; returns the way that it was given."""
        route = self.route(ticks)
        self.offer(route)
        return route

    def tick(self, count: int = 1) -> None:
        """`count` control ticks: the driver writes, joints and images arrive, the planner plans."""
        for _ in range(count):
            now = self.now
            self._hand_over(now)
            self.clock.sleep_until(now)
            before = self._arm()
            self.judge.took(self.driver.tick())
            measured = [before] if self._between is None else [self._between, before]
            for state in self.deliver(measured):
                self._measure(state)
            halfway = 0.5 * (before.position + self._arm().position)
            self._between = RobotState(
                now + 0.5 * self.spec.dt, before.names, halfway, np.zeros(len(halfway))
            )
            if self._ticks % FRAME_TICKS == 1:
                self._look(now)
            self._plan(now)
            self._ticks += 1

    def starve(self) -> None:
        """Nothing leads anywhere any more: the arm must hold, and stand."""
        self.tick(30)
        self.expect(not self.planning, "still plans")
        self.expect(self.driver.state == DriverState.HOLD, f"is {self.driver.state}, not holding")
        targets = self.probe.log.array()
        self.expect(bool(np.all(abs(targets[-1] - targets[-2]) < 1e-9)), "the hold has not come to rest")

    def finish(self) -> None:
        """Let the last faults out, and judge what holds in every run."""
        self.tick(15)
        plans = [result.plan for result in self.results if result.plan is not None]
        sequences = [plan.sequence for plan in plans]
        self.expect(sequences == sorted(set(sequences)), "plans out of order")
        self.expect(all(np.isfinite(plan.actions).all() for plan in plans), "I1 a plan is not finite")
        self.violations += self.probe.violations
        self.violations += self.judge.verdict(self.faults, self.now)

    def expect(self, condition: bool, text: str) -> None:
        """A violation `text` at this time unless `condition`."""
        if not condition:
            self.violations.append(f"{text} at {self.now:.2f} s")

    def flagged(self, code: FaultCode, since: float, words: str = "") -> bool:
        """Whether a Fault `code` that holds `words` came at `since` or later."""
        return any(
            fault.code == code and fault.stamp >= since - 1e-9 and words in fault.text
            for fault in self.faults
        )

    def writes_equal(self, other: BeliefRig) -> bool:
        """Both runs wrote the same targets at the same times."""
        log, others = self.probe.log, other.probe.log
        return log.times == others.times and np.array_equal(log.array(), others.array())

    def _hand_over(self, until: float) -> None:
        for due, plan in [each for each in self._underway if each[0] <= until]:
            self.clock.sleep_until(due)
            self.judge.may_follow(plan)
            self.driver.accept(plan, "planner")
        self._underway = [each for each in self._underway if each[0] > until]

    def _plan(self, now: float) -> None:
        """One cycle of the planner, as its node's thread runs it."""
        due = now + PHASE
        begin = max(due, self._busy_until)
        if begin >= now + self.spec.dt:  # still at the cycle before
            self._missed += 1
            return
        self.clock.sleep_until(begin)
        result = self.core.tick(begin)
        self.results.append(result)
        self._busy_until = end = begin + self.planning_time()
        if result.plan is not None:
            self._underway.append((end, result.plan))
        for fault in result.faults:
            self._reporter.report(begin, fault.code, fault.severity, fault.source, fault.text)
        too_slow = self._overruns.add(end - due, self._missed)
        if too_slow is not None:
            self._warn(begin, FaultCode.DEGRADED, too_slow)
        self._missed = 0
        self._reporter.flush(begin)
        newest = begin - result.stats.observation_age_ms * 1e-3
        self.expect(not self.stamps or newest >= self.stamps[-1] - 1e-9, "the belief went back in time")
        self.stamps.append(newest)

    def _report(self, applied: AppliedAction) -> None:
        self._history.on_applied(applied)
        self.core.on_applied(applied)

    def _measure(self, state: RobotState) -> None:
        try:
            taken = self._stream.take(state)
        except ValueError as error:
            self._warn(self.now, FaultCode.REFUSED, str(error))
            return
        if taken is None:
            return
        state, jumped = taken
        self.expect(state.stamp > self.measured_at, "an older measurement was taken for news")
        self.measured_at = state.stamp
        self.expect(not jumped, f"{jumped} taken for elsewhere")
        self._history.on_joints(state)
        self.core.on_tip(self.world.kinematics.tip_position(state.position), state.stamp)

    def _look(self, stamp: float) -> None:
        proprio = self._history.proprio_at(stamp)
        if proprio is not None:
            self.core.on_observation(Observation(stamp, {}, proprio))
            self.frames += 1

    def _warn(self, now: float, code: FaultCode, text: str) -> None:
        self._reporter.report(now, code, Severity.WARNING, SOURCE, text)

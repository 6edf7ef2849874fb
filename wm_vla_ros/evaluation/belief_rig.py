"""One seeded run of a fault case above the driver: joints, proprioception, belief, planner, virtual time.

The chain is the deployed one, from joint measurements to plans. The arm does what it is told, the robot's own
inverse kinematics included, and the world model knows exactly that: whatever goes wrong is the injection's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.goals.chunk_rollout import chunk_rollout
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore, TickResult
from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec, load_robot
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.sensing.joints import JointStream
from wm_vla_ros.sensing.proprio_history import ProprioHistory
from wm_vla_ros.types import ActionChunk, AppliedAction, Fault, FloatArray, Observation, Plan, RobotState

PHASE = 0.004  # s from the driver's tick to the planner's
FRAME_TICKS = 2  # control ticks per image


class TipModel:
    """The world model of an arm that does what it is told, and of a cube that lies still far away.

    The latent is both positions in metres.

    misread: (3,) metres that the encoder is off by at present.
    """

    latent_dim, action_dim, encoder_id = 6, 7, "tip"
    grounding_names = ("tip.x", "tip.y", "tip.z", "cube.x", "cube.y", "cube.z")

    def __init__(self, spec: RobotSpec) -> None:
        self.dt = spec.dt
        self.misread: NDArray[np.float64] = np.zeros(3)
        self._effect = np.zeros((7, 6), np.float32)
        self._effect[:3, :3] = np.eye(3) * spec.translation_scale
        self._tip = [proprio_names(spec).index(f"tip.position.{axis}") for axis in "xyz"]

    def encode(self, images: Mapping[str, NDArray[np.uint8]], proprio: FloatArray) -> FloatArray:
        return self.latent(proprio[self._tip] + self.misread)

    def latent(self, tip: NDArray) -> FloatArray:
        """(6,) latent of a tip (3,) in metres."""
        return np.concatenate([tip, [0.0, 0.5, 0.0]]).astype(np.float32)

    def predict(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        return latents + actions @ self._effect

    def rollout(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        return latents[:, None] + np.cumsum(actions @ self._effect, axis=1)

    def ground(self, latents: FloatArray) -> FloatArray:
        return latents


class BeliefWorld:
    """What the runs of a campaign share: the robot, its kinematics and its action map."""

    def __init__(self, robot: str) -> None:
        self.name = f"{robot} belief"
        self.spec = load_robot(robot)
        self.kinematics = Kinematics(self.spec)
        self.action_map = ActionMap(self.spec)  # building one takes longer than a run


class BeliefRig:
    """An arm at rest at home, seen by a camera; `aim` sends it somewhere.

    deliver: what the joint measurements of one tick become on their way; an injection replaces it.
    violations: what broke.
    """

    def __init__(self, world: BeliefWorld, seed: int) -> None:
        spec = world.spec
        self.world, self.spec = world, spec
        self.rng = np.random.default_rng([seed, 1])
        self.model = TipModel(spec)
        self.core = MpcCore(self.model, spec, MpcConfig(), seed, timer=lambda: 0.0)  # type: ignore[arg-type]
        self.deliver: Callable[[list[RobotState]], list[RobotState]] = lambda states: states
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.results: list[TickResult] = []
        self.frames = 0
        self._stream = JointStream(spec)
        self._history = ProprioHistory(world.kinematics)
        self._joints = np.array(spec.home, dtype=np.float64)
        world.action_map.reset(self._joints)
        self._measured_at = -np.inf
        self._ticks = 0
        self._plan: Plan | None = None
        self.stamps: list[float] = []
        self.tick(5)

    @property
    def now(self) -> float:
        """Time of the next driver tick, seconds."""
        return 1.0 + self._ticks * self.spec.dt

    @property
    def tip(self) -> NDArray[np.float64]:
        """(3,) metres, where the arm is."""
        return self.world.kinematics.tip_position(self._joints)

    def aim(self, ticks: int = 60) -> NDArray[np.float64]:
        """A goal 3 to 6 cm away, with the chunk of `ticks` that leads there; returns it, (3,) metres."""
        way = self.rng.uniform(-1.0, 1.0, 3) * [1.0, 1.0, 0.5]
        way *= self.rng.uniform(0.03, 0.06) / np.linalg.norm(way)
        steps = int(np.ceil(np.linalg.norm(way) / 0.003))
        actions = np.zeros((ticks, 7), np.float32)
        actions[:steps, :3] = way / steps / self.spec.translation_scale
        chunk = ActionChunk(self.now, self._ticks, "ee_delta", self.spec.dt, actions)
        self.core.on_chunk(chunk)
        goal = chunk_rollout(self.model, chunk, self.model.latent(self.tip), "go")  # type: ignore[arg-type]
        self.core.on_goal(goal, self.now)
        return self.tip + way

    def tick(self, count: int = 1) -> None:
        """`count` control ticks: the driver writes, joints and images arrive, the planner plans."""
        for _ in range(count):
            now, before = self.now, self._joints
            wanted = self._in_force(now)
            target = self.world.action_map.step(wanted, before)
            done = self.world.action_map.commit(target)
            names, zeros = self.spec.joint_names, np.zeros(len(before))
            measured = [
                RobotState(now + share * self.spec.dt, names, before + share * (target - before), zeros)
                for share in (0.0, 0.5)
            ]
            self._report(AppliedAction(now, self._ticks, "mpc", done, names, target))
            for state in self.deliver(measured):
                self._measure(state)
            if self._ticks % FRAME_TICKS == 1:
                self._look(now)
            self._joints = target
            result = self.core.tick(now + PHASE)
            self.results.append(result)
            self.faults += result.faults
            if result.plan is not None:
                self._plan = result.plan
            newest = now + PHASE - result.stats.observation_age_ms * 1e-3
            self.expect(not self.stamps or newest >= self.stamps[-1] - 1e-9, "the belief went back in time")
            self.stamps.append(newest)
            self._ticks += 1

    def finish(self) -> None:
        """Judge what holds in every run."""
        plans = [result.plan for result in self.results if result.plan is not None]
        sequences = [plan.sequence for plan in plans]
        self.expect(sequences == sorted(set(sequences)), "plans out of order")
        self.expect(all(np.isfinite(plan.actions).all() for plan in plans), "I1 a plan is not finite")

    def expect(self, condition: bool, text: str) -> None:
        """A violation `text` at this time unless `condition`."""
        if not condition:
            self.violations.append(f"{text} at {self.now:.2f} s")

    def flagged(self, code: FaultCode, since: float) -> bool:
        """Whether a Fault `code` came at `since` or later."""
        return any(fault.code == code and fault.stamp >= since - 1e-9 for fault in self.faults)

    def _in_force(self, now: float) -> FloatArray:
        row = self._plan.index_at(now + 0.5 * self.spec.dt) if self._plan is not None else None
        if self._plan is not None and row is not None:
            return self._plan.actions[row]
        rest = np.zeros(7, np.float32)
        opening = self.spec.gripper_open - self.spec.gripper_closed
        rest[6] = (self._joints[-1] - self.spec.gripper_closed) / opening
        return rest

    def _report(self, applied: AppliedAction) -> None:
        self._history.on_applied(applied)
        self.core.on_applied(applied)

    def _measure(self, state: RobotState) -> None:
        taken = self._stream.take(state)
        if taken is None:
            return
        state, jumped = taken
        self.expect(state.stamp > self._measured_at, "an older measurement was taken for news")
        self._measured_at = state.stamp
        self.expect(not jumped, f"{jumped} taken for elsewhere")
        self._history.on_joints(state)
        self.core.on_tip(self.world.kinematics.tip_position(state.position), state.stamp)

    def _look(self, stamp: float) -> None:
        proprio = self._history.proprio_at(stamp)
        if proprio is not None:
            self.core.on_observation(Observation(stamp, {}, proprio))
            self.frames += 1

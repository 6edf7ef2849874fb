"""The stack's loop in one process under virtual time: the same cores as the nodes run, without ROS.

World, driver core with its safety gate, belief, planner and slow policy are the deployed ones; what is
simulated is only when things happen: camera period and delay, the policy's latency. Everything is
reproducible from the seed, and faster than real time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.base import DriverCore
from wm_vla_ros.drivers.mujoco import DriftingActionMap, MujocoBackend
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sensing.proprio_history import ProprioHistory
from wm_vla_ros.sim.moving_target import MovingTarget
from wm_vla_ros.sim.world import TIMESTEP, SimWorld
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import AppliedAction, Fault, Observation, Plan

# The planner runs this long after the driver's tick; its plan starts at the next one.
PLANNER_PHASE = 0.004
# Camera and driver run for this long before the instruction is given, seconds: an arm sees before it is told.
LEAD_IN = 0.3


@dataclass(frozen=True, slots=True)
class RigConditions:
    """What the loop is put through. Seconds and m/s.

    observation_jitter: a frame arrives up to this much later than observation_delay, so that frames may
    overtake each other. drop_ratio: share of the frames that never arrive. drift_speed: of the tool, below
    the gate and unknown to the planner. target_speed: of the cube that the task is about, seen by nobody but
    the camera. What is random belongs to the episode's seed.
    """

    vla_latency: float = 0.1
    camera_period: float = 1.0 / 30.0
    observation_delay: float = 0.01
    drift_speed: float = 0.0
    observation_jitter: float = 0.0
    drop_ratio: float = 0.0
    target_speed: float = 0.0


class Controller(Protocol):
    """What stands between observations and plans."""

    def start(self, task: Task) -> None:
        """A new episode begins; nothing has been observed yet."""
        ...

    def on_observation(self, observation: Observation, now: float) -> None:
        """An image has arrived (its stamp is older than `now`)."""
        ...

    def on_applied(self, applied: AppliedAction) -> None:
        """The driver has written a command."""
        ...

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        """Joints were measured."""
        ...

    def tick(self, now: float) -> Plan | None:
        """Called once per control period; the plan goes to the driver."""
        ...


@dataclass(slots=True)
class EpisodeResult:
    """success within the task's time; time in seconds until then (the limit when it failed).

    instruction, distance: of the last instruction that was given.
    """

    seed: int
    instruction: str
    success: bool
    time: float
    distance: float
    faults: dict[str, int] = field(default_factory=dict)
    held_ticks: int = 0


class Transit:
    """The frames between camera and controller: each arrives in its own time, or never."""

    def __init__(self, seed: int, conditions: RigConditions) -> None:
        self._conditions = conditions
        self._random = np.random.default_rng([seed, 5])
        self._waiting: list[tuple[float, Observation]] = []

    def send(self, observation: Observation) -> None:
        """A frame has been taken at its stamp."""
        late, luck = self._random.uniform(size=2)
        conditions = self._conditions
        if luck >= conditions.drop_ratio:
            delay = conditions.observation_delay + late * conditions.observation_jitter
            self._waiting.append((observation.stamp + delay, observation))

    def arrived(self, now: float) -> list[Observation]:
        """What has arrived by `now` (seconds) and was not handed out yet, in the order of its arrival."""
        due = sorted((item for item in self._waiting if item[0] <= now + 1e-9), key=lambda item: item[0])
        self._waiting = [item for item in self._waiting if item[0] > now + 1e-9]
        return [observation for _, observation in due]


class Rig:
    """One simulated arm and its driver; runs episode after episode."""

    def __init__(self, spec: RobotSpec, cameras: tuple[str, ...], size: tuple[int, int]) -> None:
        self.spec = spec
        self.cameras = cameras
        self.world = SimWorld(spec, width=size[1], height=size[0])
        self._kinematics = Kinematics(spec)

    def run(
        self,
        seed: int,
        task: Task,
        controller: Controller,
        conditions: RigConditions,
        watch: Callable[[SimWorld, float], None] = lambda world, now: None,
        then: Sequence[Task] = (),
    ) -> EpisodeResult:
        """One episode of `task` from `seed`. watch: called every tick with the world and the time.

        Time counts from the instruction; before it the arm stands, and the controller observes. then: what
        is asked for next, each when the one before is done, within the time limits of all together; the
        scene leaves room for the first push among them.
        """
        world, clock, spec = self.world, FakeClock(), self.spec
        parts = (task, *then)
        world.reset(seed, next((part for part in parts if part.pad is not None), task))
        history = ProprioHistory(self._kinematics)
        faults: dict[str, int] = {}

        def on_fault(fault: Fault) -> None:
            faults[fault.code] = faults.get(fault.code, 0) + 1

        def on_applied(applied: AppliedAction) -> None:
            history.on_applied(applied)
            controller.on_applied(applied)

        action_map = DriftingActionMap(spec, _drift(seed, conditions.drift_speed))
        backend = MujocoBackend(world, clock)
        driver = DriverCore(spec, action_map, backend, clock, on_fault, on_applied)
        driver.enable()
        controller.start(task)
        transit = Transit(seed, conditions)
        limit = sum(part.time_limit for part in parts)
        duration = LEAD_IN + limit
        waiting = list(then)
        target = (
            MovingTarget(seed, task, world, conditions.target_speed, duration)
            if conditions.target_speed
            else None
        )
        next_frame = 0.0
        held = 0

        def advance(until: float) -> None:
            nonlocal next_frame
            while clock.now() < until - 1e-9:
                event = min(until, max(next_frame, clock.now() + TIMESTEP))
                steps = max(1, round((event - clock.now()) / TIMESTEP))
                world.step(steps)
                clock.advance(steps * TIMESTEP)
                if target is not None:
                    target.carry(world, clock.now())
                if clock.now() >= next_frame - 1e-9:
                    state = backend.read()
                    history.on_joints(state)
                    proprio = history.proprio_at(clock.now())
                    if proprio is not None:
                        images = {camera: world.render(camera) for camera in self.cameras}
                        transit.send(Observation(clock.now(), images, proprio))
                    next_frame += conditions.camera_period

        for tick in range(round(duration / spec.dt)):
            begin = tick * spec.dt
            advance(begin)
            history.on_joints(backend.read())
            report = driver.tick()
            held += report.row is None
            controller.on_tip(self._kinematics.tip_position(world.joint_positions()), clock.now())
            advance(begin + PLANNER_PHASE)
            now = clock.now()
            for observation in transit.arrived(now):
                controller.on_observation(observation, now)
            if begin < LEAD_IN - 1e-9:
                held = 0
                continue
            plan = controller.tick(now)
            if plan is not None:
                driver.accept(plan)
            watch(world, now - LEAD_IN)
            if task.success(world.tip(), world.cubes(), world.pads()):
                if not waiting:
                    return self._result(seed, task, True, now - LEAD_IN, faults, held)
                task = waiting.pop(0)
                controller.start(task)
        return self._result(seed, task, False, limit, faults, held)

    def _result(
        self, seed: int, task: Task, success: bool, time: float, faults: dict[str, int], held: int
    ) -> EpisodeResult:
        world = self.world
        distance = task.distance(world.tip(), world.cubes(), world.pads())
        return EpisodeResult(seed, task.instruction, success, time, distance, faults, held)


def _drift(seed: int, speed: float) -> NDArray[np.float64]:
    """A horizontal drift (3,) in m/s whose direction belongs to the seed."""
    angle = np.random.default_rng([seed, 3]).uniform(0.0, 2.0 * np.pi)
    return speed * np.array([np.cos(angle), np.sin(angle), 0.0])

"""An arm in simulation, driven tick by tick in this process: faster than real time, without ROS.

Actions go the same way as on the driver: action map, safety gate, servo target. Only the plan's timing is
left out, since there is no plan: one action per tick.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.action_map import ActionMap, Unreachable
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.proprio import proprio
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.safety.gate import Gate
from wm_vla_ros.safety.limits import JointLimits
from wm_vla_ros.sim.world import TIMESTEP, SimWorld
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import EE_ACTION_DIM


class SimulatedArm:
    """One world, reused for episode after episode. Not thread-safe.

    executed: (7,) the action that was really commanded at the last tick.
    """

    def __init__(self, spec: RobotSpec, width: int, height: int) -> None:
        self.spec = spec
        self.world = SimWorld(spec, width=width, height=height)
        self._map = ActionMap(spec)
        self._kinematics = Kinematics(spec)
        self._limits = JointLimits.of(spec)
        self._substeps = round(spec.dt / TIMESTEP)

    def reset(self, seed: int, task: Task | None, tip: NDArray[np.float64] | None = None) -> None:
        """Start the episode of `seed` and `task`, at rest. tip: (3,) metres, where it begins instead."""
        self.world.reset(seed, task)
        if tip is not None:
            self.world.set_tip(tip)
        measured = self.world.joint_positions()
        self._map.reset(measured)
        self._gate = Gate(self._limits)
        self._gate.sync(measured, 0.0)
        self._tick = 0
        self.executed = np.zeros(EE_ACTION_DIM, np.float32)

    @property
    def time(self) -> float:
        """Seconds since the episode's start, at the tick that comes next."""
        return self._tick * self.spec.dt

    @property
    def commanded(self) -> NDArray[np.float64]:
        """Joint targets (n,) in rad that were commanded last."""
        return self._map.commanded

    def proprio(self) -> NDArray[np.float32]:
        """Measured and commanded joints and tips, as `robots.proprio.proprio_names` says."""
        return proprio(self._kinematics, self.world.joint_positions(), self._map.commanded)

    def images(self, cameras: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        """Rendered images (H, W, 3) by camera."""
        return {camera: self.world.render(camera) for camera in cameras}

    def apply(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Execute `action` (7,) for one tick; returns the action (7,) that was really commanded."""
        self._tick += 1
        try:
            target = self._map.step(action, self.world.joint_positions())
        except Unreachable:
            # The driver holds in this case; one tick later the action is another one.
            target = self._map.commanded
        position, _ = self._gate.follow(target, self._tick * self.spec.dt)
        self.executed = self._map.commit(position)
        self.world.set_targets(position)
        self.world.step(self._substeps)
        return self.executed

    def success(self, task: Task) -> bool:
        """Whether the world is in the state that `task` asks for."""
        return task.success(self.world.tip(), self.world.cubes(), self.world.pads())

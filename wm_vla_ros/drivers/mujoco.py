"""The arm in MuJoCo, behind the same three calls as an arm on a servo bus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import Clock
from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.types import RobotState


class MujocoBackend:
    """Backend over a SimWorld that somebody else steps. `drivers.base.Backend` states the contract."""

    def __init__(self, world: SimWorld, clock: Clock) -> None:
        self.joint_names = world.spec.joint_names
        self._world = world
        self._clock = clock

    def read(self) -> RobotState:
        """Measured joints, rad and rad/s, stamped on the clock."""
        world = self._world
        return RobotState(
            self._clock.now(), self.joint_names, world.joint_positions(), world.joint_velocities()
        )

    def write(self, target: NDArray[np.float64]) -> None:
        """Servo targets (n,) rad."""
        self._world.set_targets(target)

    def close(self) -> None:
        """Nothing to release: the world belongs to whoever steps it."""


class DriftingActionMap(ActionMap):
    """An action map with an unmodelled drift: the tool creeps at `drift` (3,) m/s below everyone's view.

    What a wrong calibration, a slipping mount or a load does to an arm, as a disturbance for experiments.
    The reported action leaves the drift out, as on an arm whose drift nobody knows.
    """

    def __init__(self, spec: RobotSpec, drift: NDArray[np.float64]) -> None:
        super().__init__(spec)
        drift = np.asarray(drift, dtype=np.float64)
        if drift.shape != (3,) or not np.all(np.isfinite(drift)):
            raise ValueError(f"drift must be 3 finite numbers in m/s, got {drift}")
        self._creep = drift * spec.dt / spec.translation_scale

    def step(self, action: NDArray[np.float32], measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `ActionMap.step`, plus the drift."""
        disturbed = np.array(action, dtype=np.float64)
        disturbed[:3] += self._creep
        return super().step(disturbed, measured)

    def commit(self, applied: NDArray[np.float64]) -> NDArray[np.float32]:
        """As `ActionMap.commit`, less the drift."""
        action = super().commit(applied)
        action[:3] -= self._creep.astype(np.float32)
        return action

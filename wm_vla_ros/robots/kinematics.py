"""Forward kinematics of the tool tip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.model import robot_mjspec
from wm_vla_ros.robots.spec import RobotSpec


class Kinematics:
    """Forward kinematics on the robot's own model, without the scene. Not thread-safe: one per thread."""

    def __init__(self, spec: RobotSpec) -> None:
        import mujoco

        self.spec = spec
        self.model = robot_mjspec(spec).compile()
        self._data = mujoco.MjData(self.model)
        self._forward = mujoco.mj_kinematics
        self._address = np.array([int(self.model.joint(name).qposadr[0]) for name in spec.joint_names])
        self._tip = int(self.model.body(spec.tip_frame).id)

    def tip_pose(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotation (3, 3) and position (3,) in metres of the tip in the base frame at joints `q` (n,) rad.

        Raises ValueError when `q` has another length or is not finite.
        """
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (self.spec.dof,) or not np.all(np.isfinite(q)):
            raise ValueError(f"joint vector must be {self.spec.dof} finite numbers, got {q}")
        self._data.qpos[self._address] = q
        self._forward(self.model, self._data)
        return self._data.xmat[self._tip].reshape(3, 3).copy(), self._data.xpos[self._tip].copy()

    def tip_position(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position (3,) of the tip in metres, base frame. Raises ValueError as `tip_pose`."""
        return self.tip_pose(q)[1]

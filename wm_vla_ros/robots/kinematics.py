"""Forward and differential kinematics of the tool tip and of points on the links."""

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
        self._motion_axes = mujoco.mj_comPos
        self._jacobian = mujoco.mj_jac
        self._address = np.array([int(self.model.joint(name).qposadr[0]) for name in spec.joint_names])
        self._dofs = np.array([int(self.model.joint(name).dofadr[0]) for name in spec.joint_names])
        self._tip = int(self.model.body(spec.tip_frame).id)

    def tip_pose(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotation (3, 3) and position (3,) in metres of the tip in the base frame at joints `q` (n,) rad.

        Raises ValueError when `q` has another length or is not finite.
        """
        self._place(q)
        return self._data.xmat[self._tip].reshape(3, 3).copy(), self._data.xpos[self._tip].copy()

    def tip_position(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position (3,) of the tip in metres, base frame. Raises ValueError as `tip_pose`."""
        return self.tip_pose(q)[1]

    def tip_jacobian(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """(6, n): the tip's velocity in m/s and its angular velocity in rad/s, base frame, per rad/s of each
        joint. Raises ValueError as `tip_pose`.
        """
        self._place(q)
        self._motion_axes(self.model, self._data)
        out = np.empty((2, 3, self.model.nv))
        self._jacobian(self.model, self._data, out[0], out[1], self._data.xpos[self._tip], self._tip)
        return out[:, :, self._dofs].reshape(6, -1)

    def points(
        self, q: NDArray[np.float64], bodies: NDArray[np.int64], offsets: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (P, 3) in metres, base frame, of points fixed to links, and their Jacobians (P, 3, n).

        bodies: (P,) of `model`. offsets: (P, 3) metres in the link's frame. Raises ValueError as `tip_pose`.
        """
        self._place(q)
        self._motion_axes(self.model, self._data)
        turned = np.einsum("pij,pj->pi", self._data.xmat[bodies].reshape(-1, 3, 3), offsets)
        at = self._data.xpos[bodies] + turned
        jacobians = np.empty((len(bodies), 3, self.model.nv))
        for jacobian, point, body in zip(jacobians, at, bodies.tolist(), strict=True):
            self._jacobian(self.model, self._data, jacobian, None, point, body)
        return at, jacobians[:, :, self._dofs]

    def _place(self, q: NDArray[np.float64]) -> None:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (self.spec.dof,) or not np.all(np.isfinite(q)):
            raise ValueError(f"joint vector must be {self.spec.dof} finite numbers, got {q}")
        self._data.qpos[self._address] = q
        self._forward(self.model, self._data)

"""Where joints and links go when the tool follows a sequence of actions, to first order.

A planner that judges hundreds of futures cannot solve inverse kinematics for each. About one pose the map
from the tool's displacement to the joints' is a matrix, J⁺, and from there to any point of a link another:
two products for all futures at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.capsules import CapsuleModel, capsule_model
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.segments import segment_distance
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import FloatArray

# Of an action's numbers: translation and rotation move the tool, the next one opens the gripper.
_MOTION, _GRIPPER = 6, 6
# Damping of the inverse: near a singularity joints move by less than the tool would need, not by more than
# they could, in the units of the Jacobian (m/rad; singular values of an SO-101 are 0.03 and more).
_DAMPING = 0.005


@dataclass(frozen=True, slots=True)
class LinearisedArm:
    """The arm about one pose. Made by `Lineariser`.

    joints_now: (n,) rad. to_joints: (6, n - 1) rad per unit of action. points: (C, 2, 3) metres and their
    Jacobians, (C * 6, n). moved: (6,) and ticks: sum and number of actions that are on their way already.
    """

    spec: RobotSpec
    model: CapsuleModel
    joints_now: FloatArray
    to_joints: FloatArray
    points: FloatArray
    point_jacobian: FloatArray
    moved: FloatArray | float = 0.0
    ticks: int = 0

    def after(self, pending: FloatArray) -> LinearisedArm:
        """The same, with actions `pending` (k, 7) on their way: what comes counts from their end."""
        if not len(pending):
            return self
        return replace(self, moved=pending[:, :_MOTION].sum(axis=0), ticks=len(pending))

    def joints(self, actions: FloatArray) -> FloatArray:
        """Joints (N, H, n) in rad after each of `actions` (N, H, 7).

        First order in the tool's displacement: the error grows with its square. Of ten straight motions of
        an SO-101 nine err by less than 0.03 rad after 20 mm and by less than 0.11 rad after 40 mm; the worst
        are those that straighten the elbow. The gripper approaches each action's opening at its own speed
        from now on, which is exact while the opening asked for stays the same.
        """
        spec = self.spec
        out = np.empty((*actions.shape[:2], spec.dof), np.float32)
        motion = np.cumsum(actions[:, :, :_MOTION], axis=1) + self.moved
        turned = motion.reshape(-1, _MOTION) @ self.to_joints
        out[:, :, :-1] = self.joints_now[:-1] + turned.reshape(*out.shape[:2], -1)
        wanted = spec.gripper_closed + actions[:, :, _GRIPPER] * (spec.gripper_open - spec.gripper_closed)
        most = spec.gripper_speed * spec.dt * (self.ticks + 1 + np.arange(actions.shape[1], dtype=np.float32))
        out[:, :, -1] = self.joints_now[-1] + np.clip(wanted - self.joints_now[-1], -most, most)
        return out

    def ends(self, joints: FloatArray) -> FloatArray:
        """Ends (N, H, C, 2, 3) of the capsules in metres, base frame, at `joints` (N, H, n).

        First order in the joints' displacement, itself of first order: within 4 mm after 20 mm and 10 mm
        after 40 mm, where the elbow is worst. The tool goes where the actions take it, so that of the
        fingers' height over the table little is lost: 1 mm and 2 mm.
        """
        return self._ends(joints).transpose(3, 4, 0, 1, 2)

    def clearance(self, joints: FloatArray) -> FloatArray:
        """Metres (N, H) between the nearest capsules, or capsule and table; negative where they overlap."""
        ends, model = self._ends(joints), self.model
        nearest = np.full(ends.shape[3:], np.inf, np.float32)
        if len(model.pairs):
            one, other = model.pairs.T
            # (2, 3, C, N, H): which end, which coordinate.
            p, q = ends.transpose(1, 2, 0, 3, 4)
            apart = segment_distance(p[:, one], q[:, one], p[:, other], q[:, other])
            reach = model.radius[one] + model.radius[other]
            nearest = (apart - reach[:, None, None]).min(axis=0)
        if len(model.above_table):
            heights = ends[model.above_table, :, 2].min(axis=1) - self.model.table_height
            lowest = (heights - model.radius[model.above_table, None, None]).min(axis=0)
            nearest = np.minimum(nearest, lowest)
        return nearest

    def _ends(self, joints: FloatArray) -> FloatArray:
        """As `ends`, with futures and ticks last: (C, 2, 3, N, H)."""
        motion = (joints - self.joints_now).reshape(-1, len(self.joints_now))
        shape = (*self.points.shape, *joints.shape[:2])
        return self.points[..., None, None] + (self.point_jacobian @ motion.T).reshape(shape)


class Lineariser:
    """Makes `LinearisedArm`s of one robot. Not thread-safe."""

    def __init__(self, spec: RobotSpec) -> None:
        """Raises ValueError when the spec names no links to keep apart, or one that is not there."""
        self._spec = spec
        self._kinematics = Kinematics(spec)
        self._model = capsule_model(spec, self._kinematics.model)
        if not len(self._model.pairs) and not len(self._model.above_table):
            raise ValueError(f"{spec.name}: collision_pairs names no links that could be kept apart")
        capsules = self._model.capsules
        self._bodies = np.repeat([capsule.body for capsule in capsules], 2)
        self._offsets = np.concatenate([capsule.ends for capsule in capsules])

    def at(self, joints: NDArray[np.float64]) -> LinearisedArm:
        """The arm about `joints` (n,) rad.

        The inverse is damped least squares (Wampler 1986; Nakamura and Hanafusa 1986) with the weights of
        the robot's own inverse kinematics (`ActionMap`): what orientation the arm gives up there costs
        nothing here. Raises ValueError as `Kinematics.tip_pose`.
        """
        spec = self._spec
        rotation, _ = self._kinematics.tip_pose(joints)
        jacobian = self._kinematics.tip_jacobian(joints)[:, :-1]
        weigh = np.eye(6)
        weigh[3:, 3:] = spec.orientation_weights[:, None] * rotation.T
        weighted = weigh @ jacobian
        square = weighted.T @ weighted + _DAMPING**2 * np.eye(jacobian.shape[1])
        inverse = np.linalg.solve(square, weighted.T @ weigh)
        scale = np.repeat([spec.translation_scale, spec.rotation_scale], 3)
        points, jacobians = self._kinematics.points(joints, self._bodies, self._offsets)
        shape = (len(self._model.capsules), 2, 3)
        return LinearisedArm(
            spec,
            self._model,
            np.asarray(joints, np.float32),
            (inverse * scale).T.astype(np.float32),
            points.reshape(shape).astype(np.float32),
            jacobians.reshape(-1, spec.dof).astype(np.float32),
        )

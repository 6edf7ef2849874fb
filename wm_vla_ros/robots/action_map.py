"""The map from 7-D end-effector actions to joint targets, by constrained differential inverse kinematics.

Each tick solves one quadratic program (mink): the tip's pose as weighted least squares, under joint,
velocity and collision limits. An arm of five joints cannot hold all six pose numbers; the rotation axes
whose weight in the spec is zero are given up, and the commanded orientation follows the arm there, so
that nothing winds up. The collision limits are linear in the joints; what that misses near the table is
made up for by raising the target and, last, by shortening the step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from transforms3d.axangles import axangle2mat, mat2axangle

from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.model import TABLE
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import EE_ACTION_DIM

# Iterations per tick: the second removes the first one's linearisation error (0.1 mm at 4 mm a tick).
_ITERATIONS = 2
_DAMPING = 1e-6
# How much of the table clearance a step may use up for its curvature, metres, before it is shortened.
_CLEARANCE_SLACK = 0.0005
# The commanded orientation never leads the arm's by more, rad: what a limit keeps from being done is owed up
# to here, so that the tool comes back to its pitch, and forgotten beyond, so that nothing winds up.
_ROTATION_LEASH = 0.35
# What is owed is asked back at this rate at most, rad/s. All at once it outweighs the position: at the edge
# of its reach the tip was drawn off where the action had it, and went round and round beside its path.
_OWED_RATE = 1.0


class Unreachable(ValueError):
    """The quadratic program has no solution from here: limits and collision clearances contradict."""


def rotation_matrix(rotation_vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) matrix of a rotation vector (3,) in rad."""
    angle = float(np.linalg.norm(rotation_vector))
    return np.eye(3) if angle < 1e-12 else axangle2mat(rotation_vector / angle, angle, is_normalized=True)


def rotation_vector(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) rotation vector in rad of a rotation matrix (3, 3)."""
    skew = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine, cosine = float(np.linalg.norm(skew)) / 2.0, (float(np.trace(matrix)) - 1.0) / 2.0
    if cosine < -0.9:  # near half a turn the skew part vanishes; elsewhere the eigenvalues come close
        axis, angle = mat2axangle(matrix)
        return np.asarray(axis) * angle
    return skew / 2.0 * (np.arctan2(sine, cosine) / sine if sine > 0.0 else 1.0)


class ActionMap:
    """Commanded pose of one arm: `step` proposes joint targets, `commit` takes what was really commanded."""

    def __init__(self, spec: RobotSpec) -> None:
        import mink
        import mujoco

        self.spec = spec
        self._mink = mink
        self._distance = mujoco.mj_geomDistance
        self._kinematics = Kinematics(spec)
        model = self._kinematics.model
        self._configuration = mink.Configuration(model)
        self._task = mink.FrameTask(spec.tip_frame, "body", 1.0, spec.orientation_weights, lm_damping=1e-8)
        velocity = dict(zip(spec.joint_names, spec.velocity_limit * 0.95, strict=True))
        self._joint_limit = mink.ConfigurationLimit(model, min_distance_from_limits=spec.limit_margin)
        self._limits = [
            self._joint_limit,
            mink.VelocityLimit(model, velocity),
            mink.CollisionAvoidanceLimit(
                model,
                [(self._geoms(a), self._geoms(b)) for a, b in spec.collision_pairs],
                minimum_distance_from_collisions=spec.table_clearance,
                collision_detection_distance=0.03,
            ),
        ]
        self._address = [int(model.joint(name).qposadr[0]) for name in spec.joint_names]
        addresses = dict(zip(spec.joint_names, self._address, strict=True))
        self._branch = [
            (at, max(low, self._joint_limit.lower[at]), min(high, self._joint_limit.upper[at]))
            for at, low, high in ((addresses[name], *pair) for name, pair in spec.ik_limits.items())
        ]
        # The gripper goes where the action says; the arm alone keeps clear.
        self._frozen = [mink.DofFreezingTask(model, [int(model.joint(spec.gripper_joint).dofadr[0])])]
        self._table = int(model.geom(TABLE).id)
        self._above_table = sorted(
            {
                int(model.geom(name).id)
                for a, b in spec.collision_pairs
                if TABLE in b
                for name in self._geoms(a)
            }
        )
        self.reset(spec.home)

    def _geoms(self, links: tuple[str, ...]) -> list[str]:
        model = self._kinematics.model
        names = []
        for link in links:
            if link == TABLE:
                names.append(TABLE)
                continue
            body = model.body(link).id
            found = [model.geom(i).name for i in range(model.ngeom) if int(model.geom_bodyid[i]) == body]
            names += [name for name in found if int(model.geom(name).contype[0])]
        return names

    @property
    def commanded(self) -> NDArray[np.float64]:
        """Joint target (n,) that was last committed, rad."""
        return self._q.copy()

    def tip_position(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tip (3,) in metres at `joints` (n,) rad, base frame."""
        return self._kinematics.tip_position(joints)

    def reset(self, measured: NDArray[np.float64]) -> None:
        """Command the measured pose `measured` (n,) rad: no motion follows from the past."""
        self._rotation, self._position = self._kinematics.tip_pose(measured)
        self._q = np.array(measured, dtype=np.float64)
        self._proposed: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def step(self, action: NDArray[np.float32], measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint target (n,) rad for `action` (7,), changing nothing.

        measured: (n,) rad; the commanded tip stays within the spec's leash of the measured one.
        Raises ValueError for an action that is not 7 finite numbers, Unreachable when limits leave no motion.
        """
        wanted = np.asarray(action, dtype=np.float64)
        if wanted.shape != (EE_ACTION_DIM,) or not np.all(np.isfinite(wanted)):
            raise ValueError(f"an end-effector action is {EE_ACTION_DIM} finite numbers, got {action}")
        rotation, position = self._target_pose(wanted)
        anchor = self._kinematics.tip_position(measured)
        lead = position - anchor
        distance = float(np.linalg.norm(lead))
        if distance > self.spec.leash:
            position = anchor + lead * (self.spec.leash / distance)
        lowest = self._position[2] - (self._clearance(self._q) - self.spec.table_clearance)
        position[2] = max(position[2], lowest)
        target = self._clear_part(self._solve(rotation, position, self._gripper_target(float(wanted[6]))))
        self._proposed = target, wanted[3:6] * self.spec.rotation_scale
        return target

    def commit(self, applied: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take `applied` (n,) rad as the new command; returns the equivalent action (7,) of that motion."""
        before_rotation, before_position = self._kinematics.tip_pose(self._q)
        rotation, position = self._kinematics.tip_pose(applied)
        spec = self.spec
        action = np.empty(EE_ACTION_DIM, dtype=np.float32)
        action[:3] = (position - before_position) / spec.translation_scale
        action[3:6] = rotation_vector(rotation @ before_rotation.T) / spec.rotation_scale
        action[6] = (applied[-1] - spec.gripper_closed) / (spec.gripper_open - spec.gripper_closed)
        turn = rotation_matrix(self._applied_turn(applied))
        self._rotation, self._position = self._reachable_part(rotation, turn @ self._rotation), position
        self._q = np.array(applied, dtype=np.float64)
        self._proposed = None
        return action

    def _applied_turn(self, applied: NDArray[np.float64]) -> NDArray[np.float64]:
        """The proposed rotation vector (3,) in rad, or as much of it as the gate let through."""
        if self._proposed is None:
            return np.zeros(3)
        target, turn = self._proposed
        motion = target - self._q
        size = float(motion @ motion)
        share = float(np.clip((applied - self._q) @ motion / size, 0.0, 1.0)) if size > 1e-18 else 1.0
        return turn * share

    def _target_pose(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        held, _ = self._kinematics.tip_pose(self._q)
        owed = rotation_vector(held.T @ self._rotation)
        most = _OWED_RATE * self.spec.dt
        owed *= most / max(float(np.linalg.norm(owed)), most)
        turn = rotation_matrix(action[3:6] * self.spec.rotation_scale)
        return turn @ held @ rotation_matrix(owed), self._position + action[:3] * self.spec.translation_scale

    def _reachable_part(
        self, rotation: NDArray[np.float64], commanded: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """`commanded` without what leads `rotation` about the axes that the arm gives up, and on a leash."""
        lead = np.where(self.spec.orientation_weights > 0, rotation_vector(rotation.T @ commanded), 0.0)
        angle = float(np.linalg.norm(lead))
        return rotation @ rotation_matrix(lead * min(1.0, _ROTATION_LEASH / max(angle, _ROTATION_LEASH)))

    def _gripper_target(self, opening: float) -> float:
        spec = self.spec
        wanted = spec.gripper_closed + opening * (spec.gripper_open - spec.gripper_closed)
        most = spec.gripper_speed * spec.dt
        return float(self._q[-1] + np.clip(wanted - self._q[-1], -most, most))

    def _place(self, joints: NDArray[np.float64]) -> None:
        q = np.zeros(self._configuration.model.nq)
        q[self._address] = joints
        self._configuration.update(q)

    def _clearance(self, joints: NDArray[np.float64]) -> float:
        """Metres between the table and the lowest of the links that the spec keeps off it."""
        self._place(joints)
        model, data = self._configuration.model, self._configuration.data
        distances = [self._distance(model, data, self._table, geom, 1.0, None) for geom in self._above_table]
        return min(distances, default=np.inf)

    def _clear_part(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """As much of the way to `target` as keeps clear of the table, or at least comes no nearer to it."""
        floor = min(self.spec.table_clearance - _CLEARANCE_SLACK, self._clearance(self._q))
        for share in (1.0, 0.5, 0.25, 0.125):
            joints = self._q + share * (target - self._q)
            if self._clearance(joints) >= floor:
                return joints
        return self._q.copy()

    def _stay_on_branch(self) -> None:
        """Bound the joints that the spec keeps on one side of a singularity.

        A joint that is beyond its range already, moved by hand, may come back and not go farther.
        """
        limit = self._joint_limit
        for at, low, high in self._branch:
            now = self._configuration.q[at]
            limit.lower[at], limit.upper[at] = min(low, now), max(high, now)

    def _solve(
        self, rotation: NDArray[np.float64], position: NDArray[np.float64], gripper: float
    ) -> NDArray[np.float64]:
        mink, configuration = self._mink, self._configuration
        pose = mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position)
        self._task.set_target(pose)
        self._place(np.append(self._q[:-1], gripper))
        self._stay_on_branch()
        step_time = self.spec.dt / _ITERATIONS
        for _ in range(_ITERATIONS):
            try:
                velocity = mink.solve_ik(
                    configuration,
                    [self._task],
                    step_time,
                    "daqp",
                    damping=_DAMPING,
                    limits=self._limits,
                    constraints=self._frozen,
                )
            except mink.NoSolutionFound as error:
                raise Unreachable(f"no joint motion reaches tip position {np.round(position, 4)}") from error
            configuration.integrate_inplace(velocity, step_time)
        return configuration.q[self._address].copy()

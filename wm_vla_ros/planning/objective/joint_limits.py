"""Keep the arm's joints off the ends of their ranges, where inverse kinematics has no way left to go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts
from wm_vla_ros.robots.spec import RobotSpec


@dataclass(frozen=True, slots=True)
class JointLimits:
    """Squared depth within `margin` rad of the range that the arm is kept in, in units of that margin.

    lower, upper: (n,) rad, of the arm without its gripper, which goes where the action says. At a bound a
    joint costs 1. Joints come from `LinearisedArm.joints`, with its error.
    """

    weight: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    margin: float
    name: str = "joint_limits"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks, sum over joints."""
        assert rollouts.joints is not None
        joints = rollouts.joints[:, :, : len(self.lower)]
        depth = np.maximum(self.lower + self.margin - joints, joints - (self.upper - self.margin))
        depth = np.maximum(0.0, depth) / self.margin
        return self.weight * np.einsum("nhj,nhj->n", depth, depth) / depth.shape[1]


def arm_range(spec: RobotSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds (n,) rad in which inverse kinematics keeps the arm, the gripper left out."""
    lower, upper = spec.lower + spec.limit_margin, spec.upper - spec.limit_margin
    for joint, (low, high) in spec.ik_limits.items():
        index = spec.joint_names.index(joint)
        lower[index], upper[index] = max(low, lower[index]), min(high, upper[index])
    arm = len(spec.arm_joints)
    return lower[:arm], upper[:arm]

"""Proprioception: the vector that policies and world models are given, its layout in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.spec import RobotSpec


def proprio_names(spec: RobotSpec) -> tuple[str, ...]:
    """One name per entry: measured joints, commanded joints (rad), measured tip, commanded tip (m)."""
    return (
        *(f"{name}.position" for name in spec.joint_names),
        *(f"{name}.command" for name in spec.joint_names),
        *(f"tip.position.{axis}" for axis in "xyz"),
        *(f"tip.command.{axis}" for axis in "xyz"),
    )


def proprio(
    kinematics: Kinematics, measured: NDArray[np.float64], commanded: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The vector that `proprio_names` describes, from joint vectors (n,) in rad.

    Raises ValueError when either is of the wrong length or not finite.
    """
    tips = kinematics.tip_position(measured), kinematics.tip_position(commanded)
    return np.concatenate([measured, commanded, *tips]).astype(np.float32)

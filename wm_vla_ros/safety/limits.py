"""Joint limits as steps per tick, and how far a joint still travels when it brakes.

All steps are in rad per tick of `dt`. The gate commands positions once per tick, so braking is discrete:
from a step s the next ones are s - a, s - 2a, ... until none is left (a = acceleration limit * dt^2).
The continuous v^2 / 2a would be wrong by up to half a step, which is what overshoots a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Joints = NDArray[np.float64]


class ArmLimits(Protocol):
    """What the gate needs of a robot's spec; arrays are (n,), in joint_names order."""

    @property
    def joint_names(self) -> tuple[str, ...]: ...
    @property
    def lower(self) -> Joints: ...  # rad
    @property
    def upper(self) -> Joints: ...
    @property
    def limit_margin(self) -> float: ...  # rad
    @property
    def velocity_limit(self) -> Joints: ...  # rad/s
    @property
    def acceleration_limit(self) -> Joints: ...  # rad/s^2
    @property
    def dt(self) -> float: ...  # s


@dataclass(frozen=True, slots=True)
class JointLimits:
    """Limits of n joints. lower, upper: (n,) rad, already less the margin. step: (n,) greatest |dq| per tick.

    step_change: (n,) greatest change of dq from one tick to the next. hard_lower, hard_upper: the
    mechanical limits.
    """

    names: tuple[str, ...]
    dt: float
    lower: Joints
    upper: Joints
    hard_lower: Joints
    hard_upper: Joints
    step: Joints
    step_change: Joints

    @classmethod
    def of(cls, spec: ArmLimits) -> JointLimits:
        """Raises ValueError when a limit is missing, not finite, or leaves no room."""
        names, dt = tuple(spec.joint_names), float(spec.dt)
        if len(set(names)) != len(names):
            raise ValueError(f"joint names repeat: {names}")
        if not np.isfinite(dt) or dt <= 0 or not np.isfinite(spec.limit_margin) or spec.limit_margin < 0:
            raise ValueError(f"dt must be > 0 and the margin >= 0, got {dt} s and {spec.limit_margin} rad")
        arrays = [
            np.array(value, dtype=np.float64)
            for value in (spec.lower, spec.upper, spec.velocity_limit, spec.acceleration_limit)
        ]
        for array in arrays:
            if array.shape != (len(names),) or not np.all(np.isfinite(array)):
                raise ValueError(f"each limit must be {len(names)} finite numbers for {names}, got {array}")
        hard_lower, hard_upper, velocity, acceleration = arrays
        lower, upper = hard_lower + spec.limit_margin, hard_upper - spec.limit_margin
        if np.any(lower >= upper) or np.any(velocity <= 0) or np.any(acceleration <= 0):
            raise ValueError(f"limits leave no room: {lower} .. {upper} rad, {velocity}, {acceleration}")
        step, step_change = velocity * dt, acceleration * dt * dt
        for array in (lower, upper, hard_lower, hard_upper, step, step_change):
            array.setflags(write=False)
        return cls(names, dt, lower, upper, hard_lower, hard_upper, step, step_change)

    def describe(self, joints: NDArray[np.bool_]) -> str:
        """Names of the joints that `joints` (n,) marks."""
        return ", ".join(name for name, marked in zip(self.names, joints, strict=True) if marked)


def greatest_step(room: Joints, step_change: Joints) -> Joints:
    """The largest step (n,) from which the joint still stops within `room` (n,) >= 0, step included; rad.

    A step s and the n steps of braking after it travel (n + 1) * s - step_change * n * (n + 1) / 2 = room,
    where n is the largest integer with step_change * n * (n + 1) / 2 <= room.
    """
    ticks = np.floor((np.sqrt(1.0 + 8.0 * room / step_change) - 1.0) / 2.0)
    return (room + step_change * ticks * (ticks + 1) / 2) / (ticks + 1)


def names_of(values: Sequence[str], limit: int = 8) -> str:
    """`values` for a message, cut after `limit` so that a hostile list cannot fill the log."""
    shown = ", ".join(repr(value[:64]) for value in values[:limit])
    return shown + (f" and {len(values) - limit} more" if len(values) > limit else "")

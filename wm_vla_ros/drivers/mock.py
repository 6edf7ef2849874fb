"""An arm in memory, for tests and fault campaigns: it follows its target at once, or fails on demand.

Sentinel targets make it fail, so that a failure is provoked through the same call as a motion: as long as
the first joint's last target is one of the constants below, the arm behaves as the constant says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import Clock
from wm_vla_ros.safety.limits import ArmLimits, Joints
from wm_vla_ros.types import EE_ACTION_DIM, RobotState

READ_RAISES = 0.50390625  # exact in float32, so that a plan can carry it
READ_NAN = 0.25390625
READ_OLD = 0.12890625
WRITE_RAISES = -0.50390625  # the write of this very target fails


def _joints(values: list[float]) -> Joints:
    array = np.array(values)
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class MockSpec:
    """Limits of a six-joint arm that exists nowhere: pan, four more and a gripper. rad, rad/s, rad/s^2, s."""

    joint_names: tuple[str, ...] = ("pan", "lift", "elbow", "flex", "roll", "gripper")
    lower: Joints = field(default_factory=lambda: _joints([-1.9, -1.7, -1.6, -1.6, -2.7, -0.1]))
    upper: Joints = field(default_factory=lambda: _joints([1.9, 1.7, 1.6, 1.6, 2.8, 1.7]))
    home: Joints = field(default_factory=lambda: _joints([0.0, -0.3, 0.1, 0.4, 0.0, 0.2]))
    limit_margin: float = 0.02
    velocity_limit: Joints = field(default_factory=lambda: _joints([3.0, 3.0, 3.0, 3.0, 4.0, 4.0]))
    acceleration_limit: Joints = field(default_factory=lambda: _joints([40.0, 40.0, 40.0, 40.0, 60.0, 80.0]))
    dt: float = 0.02


class MockActionMap:
    """A 7-D action that moves the first n - 1 joints by `scale` rad each and the last one to an opening,
    by at most `gripper_step` rad a tick.

    The dimensions that such an arm has no joint for are given up, as a five-joint arm gives up one rotation.
    """

    scale = 0.05
    gripper_step = 0.03

    def __init__(self, spec: ArmLimits) -> None:
        self._lower, self._upper = spec.lower[-1], spec.upper[-1]
        self._arm = min(len(spec.joint_names), EE_ACTION_DIM) - 1
        self._q: Joints = np.zeros(len(spec.joint_names))

    def reset(self, measured: Joints) -> None:
        self._q = np.array(measured)

    def step(self, action: NDArray[np.float32], measured: Joints) -> Joints:
        target = self._q.copy()
        target[: self._arm] += self.scale * action[: self._arm].astype(np.float64)
        opening = self._lower + float(action[6]) * (self._upper - self._lower)
        target[-1] += np.clip(opening - target[-1], -self.gripper_step, self.gripper_step)
        return target

    def commit(self, applied: Joints) -> NDArray[np.float32]:
        action = np.zeros(EE_ACTION_DIM, dtype=np.float32)
        action[: self._arm] = (applied[: self._arm] - self._q[: self._arm]) / self.scale
        action[6] = (applied[-1] - self._lower) / (self._upper - self._lower)
        self._q = np.array(applied)
        return action


class MockBackend:
    """Backend whose joints are where they were last sent, `lag` of the remaining way behind each write.

    lag: 0 follows at once; 0.5 leaves half of the distance at every write.
    """

    def __init__(self, spec: ArmLimits, clock: Clock, start: Joints, lag: float = 0.0) -> None:
        if not 0 <= lag < 1:
            raise ValueError(f"lag must be in [0, 1), got {lag}")
        self.joint_names = tuple(spec.joint_names)
        self._clock = clock
        self._lag = lag
        self._position: Joints = np.array(start, dtype=np.float64)
        self._target: Joints = self._position.copy()
        self._read_at = clock.now()

    def read(self) -> RobotState:
        """Raises OSError, returns NaN or an old stamp while the first joint's target is a sentinel."""
        if self._target[0] == READ_RAISES:
            raise OSError("the bus does not answer")
        position = self._position.copy()
        if self._target[0] == READ_NAN:
            position[1] = np.nan
        if self._target[0] != READ_OLD:
            self._read_at = self._clock.now()
        return RobotState(self._read_at, self.joint_names, position, np.zeros_like(position))

    def write(self, target: Joints) -> None:
        """Raises OSError for a target whose first joint is WRITE_RAISES; the arm then stays where it is."""
        if target[0] == WRITE_RAISES:
            raise OSError("the bus does not take the packet")
        self._target = np.array(target)
        self._position = target + self._lag * (self._position - target)

    def push(self, position: Joints) -> None:
        """Somebody moves the arm to `position` (n,) rad by hand, or the world does."""
        self._position = np.array(position, dtype=np.float64)

    def close(self) -> None:
        """Nothing to release."""

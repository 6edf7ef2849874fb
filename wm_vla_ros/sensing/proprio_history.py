"""Proprioception at the time of an image: joints and commands are remembered, not taken as they come."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.proprio import proprio
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import AppliedAction, RobotState


class ProprioHistory:
    """The last `window` seconds of measured and commanded joints. Not thread-safe."""

    def __init__(self, kinematics: Kinematics, window: float = 2.0) -> None:
        self._kinematics = kinematics
        self._window = window
        self._measured: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._commanded: deque[tuple[float, NDArray[np.float64]]] = deque()

    def on_joints(self, state: RobotState) -> None:
        """Remember a measurement. Raises ValueError as `in_order`."""
        measured = in_order(state, self._kinematics.spec)
        self._append(self._measured, measured.stamp, measured.position)

    def on_applied(self, applied: AppliedAction) -> None:
        """Remember a command. Raises ValueError as `on_joints`."""
        rows = rows_in_order(applied.joint_names, applied.joint_positions, self._kinematics.spec)
        self._append(self._commanded, applied.stamp, applied.joint_positions[rows])

    def proprio_at(self, stamp: float) -> NDArray[np.float32] | None:
        """The vector of `robots.proprio` at `stamp` (seconds), or None when the history does not reach there.

        Measured joints are interpolated (the newest is held for at most one tick); the command is the last
        one written before `stamp`.
        """
        measured = self._interpolated(stamp)
        commanded = self._before(stamp)
        if measured is None or commanded is None:
            return None
        return proprio(self._kinematics, measured, commanded)

    def _append(self, history: deque, stamp: float, joints: NDArray[np.float64]) -> None:
        if history and stamp <= history[-1][0]:  # out of order or repeated: the older one is of no use here
            return
        history.append((stamp, joints))
        while history[0][0] < stamp - self._window:
            history.popleft()

    def _interpolated(self, stamp: float) -> NDArray[np.float64] | None:
        history = self._measured
        if not history or stamp < history[0][0] or stamp > history[-1][0] + self._kinematics.spec.dt:
            return None
        at = bisect_right(history, stamp, key=lambda item: item[0])
        if at == len(history):
            return history[-1][1]
        (t0, q0), (t1, q1) = history[at - 1], history[at]
        return q0 + (q1 - q0) * ((stamp - t0) / (t1 - t0))

    def _before(self, stamp: float) -> NDArray[np.float64] | None:
        at = bisect_right(self._commanded, stamp - 1e-6, key=lambda item: item[0])
        return self._commanded[at - 1][1] if at else None


def in_order(state: RobotState, spec: RobotSpec) -> RobotState:
    """The measurement with the robot's joints, in the robot's order. Messages name theirs in any order.

    Raises ValueError naming joints that are missing, there twice or not finite.
    """
    rows = rows_in_order(state.names, state.position, spec)
    return RobotState(state.stamp, spec.joint_names, state.position[rows], state.velocity[rows])


def rows_in_order(names: tuple[str, ...], values: NDArray[np.float64], spec: RobotSpec) -> list[int]:
    """Where each of the robot's joints stands among `names`. Raises ValueError as `in_order`."""
    bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
    if bad:
        raise ValueError(f"joints {bad} are not finite")
    missing = [name for name in spec.joint_names if name not in names]
    if missing:
        raise ValueError(f"joints {missing} are missing, the message has {list(names)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"joints {twice} are there more than once")
    return [names.index(name) for name in spec.joint_names]

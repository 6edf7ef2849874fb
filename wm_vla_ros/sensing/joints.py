"""Joint measurements in the order of time, and the ones that no motion of the arm can explain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sensing.proprio_history import in_order
from wm_vla_ros.types import RobotState

# An arm moves by at most its velocity limit between two measurements; more than this factor of it, plus
# this many rad of noise, is another arm pose altogether: a reset scene, an encoder that slipped.
_JUMP_FACTOR, _JUMP_SLACK = 3.0, 0.05


def jumped(before: RobotState, after: RobotState, velocity_limit: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which joints cannot have moved from `before` to `after`; velocity_limit: (n,) rad/s.

    None of them when `after` is not the newer one: between two times in the wrong order nothing is known.
    """
    elapsed = after.stamp - before.stamp
    if elapsed <= 0.0:
        return np.zeros(len(after.position), bool)
    return abs(after.position - before.position) > velocity_limit * (_JUMP_FACTOR * elapsed) + _JUMP_SLACK


class JointStream:
    """The measurements of one arm as they arrive. Not thread-safe."""

    def __init__(self, spec: RobotSpec) -> None:
        self._spec = spec
        self._last: RobotState | None = None

    def take(self, state: RobotState) -> tuple[RobotState, tuple[str, ...]] | None:
        """The measurement in the robot's order, and the names of the joints that jumped.

        None for one that is not newer than the last: it says nothing that is still of use. Raises
        ValueError as `in_order`.
        """
        state = in_order(state, self._spec)
        last, names = self._last, self._spec.joint_names
        if last is not None and state.stamp <= last.stamp:
            return None
        self._last = state
        if last is None:
            return state, ()
        off = jumped(last, state, self._spec.velocity_limit)
        return state, tuple(name for name, marked in zip(names, off, strict=True) if marked)

"""The motion that follows a path best, with the whole horizon in view: a linear map, solved once."""

from __future__ import annotations

import numpy as np

from wm_vla_ros.planning.objective.smoothness import CHANGE_SCALE
from wm_vla_ros.planning.objective.tracking import TERMINAL, TIP_SCALE
from wm_vla_ros.planning.objective.weights import Weights
from wm_vla_ros.types import FloatArray


class Preview:
    """Least squares over a horizon: distance from the path against change of speed.

    A tip that goes where it is told is an integrator, p_k = p_0 + v_1 + ... + v_k. The motion that minimises
    sum w_k |p_k - r_k|^2 + smoothness * sum |v_k - v_(k-1)|^2 is linear in the path r, in p_0 and in v_0, the
    motion in force: preview control with a finite horizon (Tomizuka, Trans. ASME 97, 1975). It brakes and
    turns before the path does, where following it point by point would overrun.
    """

    def __init__(self, horizon: int, scale: float, smoothness: float, terminal: float = TERMINAL) -> None:
        """scale: metres per tick at an action of 1. terminal: weight of the last tick; others have 1."""
        self._scale = scale
        weights = np.ones(horizon)
        weights[-1] = terminal
        sums = np.tril(np.ones((horizon, horizon)))
        changes = np.eye(horizon) - np.eye(horizon, k=-1)
        normal = sums.T @ (weights[:, None] * sums) + smoothness * changes.T @ changes
        self._path_gain = np.linalg.solve(normal, sums.T * weights).astype(np.float32)
        self._motion_gain = np.linalg.solve(normal, smoothness * np.eye(horizon)[:, :1]).astype(np.float32)

    def __call__(
        self, tip: FloatArray, target: FloatArray, previous: FloatArray, rest: FloatArray
    ) -> FloatArray:
        """Actions (H, A) from `tip` (3,) along `target` (H, 3), metres in the base frame.

        previous: (A,) the action in force. rest: (H, A), whose entries past the translation are kept.
        """
        actions = np.array(rest, dtype=np.float32)
        actions[:, :3] = self._path_gain @ (target - tip) / self._scale + self._motion_gain * previous[:3]
        return actions


def tip_preview(weights: Weights, horizon: int, scale: float) -> Preview:
    """What the objective says of the tip alone, solved: its smoothness against its distance, in metres.

    scale: metres per tick at an action of 1.
    """
    distance = weights.weight_tip / TIP_SCALE**2
    change = weights.weight_smoothness / (CHANGE_SCALE * scale) ** 2
    return Preview(horizon, scale, change / max(distance, 1e-12))

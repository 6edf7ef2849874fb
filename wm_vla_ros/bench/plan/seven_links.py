"""A task whose dynamics are known: seven links follow a moving target. Plans are compared by its return.

With true dynamics the return tells samplers apart and nothing else: no model can be blamed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.samplers import Sampler
from wm_vla_ros.types import FloatArray

LINKS = 7
TICKS = 60
DT = 0.02
# rad per tick at action 1, and the share of the velocity command that arrives in a tick.
_STEP = 0.08
_RESPONSE = 0.5
_EFFORT = 0.002


class Follower:
    """A planar arm, 1 m long, on a table; its tip is to be where the target is, tick for tick.

    State: joints (7,) rad and joint velocities (7,) rad per tick. Actions: (7,) in [-1, 1].
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 11])
        self._joints = rng.uniform(-0.6, 0.6, LINKS)
        self._velocity = np.zeros(LINKS)
        self._centre = rng.uniform(-0.2, 0.2, 2) + np.array([0.45, 0.0])
        self._size = rng.uniform(0.1, 0.25, 2)
        self._rate = rng.uniform(2.0, 4.0, 2)
        self._phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        self._tick = 0

    def cost(self, actions: FloatArray) -> NDArray[np.float64]:
        """(N,) of action sequences (N, H, 7): mean distance from the target, m, and effort."""
        joints = np.tile(self._joints, (len(actions), 1))
        velocity = np.tile(self._velocity, (len(actions), 1))
        total = np.zeros(len(actions))
        for ahead in range(actions.shape[1]):
            velocity = velocity + _RESPONSE * (_STEP * actions[:, ahead] - velocity)
            joints = joints + velocity
            total += self._tick_cost(joints, actions[:, ahead], self._tick + ahead + 1)
        return total / actions.shape[1]

    def apply(self, action: FloatArray) -> float:
        """Act for one tick; returns that tick's reward."""
        self._velocity = self._velocity + _RESPONSE * (_STEP * np.asarray(action, float) - self._velocity)
        self._joints = self._joints + self._velocity
        self._tick += 1
        return -float(self._tick_cost(self._joints[None], np.asarray(action)[None], self._tick)[0])

    def _tick_cost(self, joints: NDArray[np.float64], actions: FloatArray, tick: int) -> NDArray[np.float64]:
        angles = np.cumsum(joints, axis=1)
        tips = np.stack([np.cos(angles).sum(axis=1), np.sin(angles).sum(axis=1)], axis=1) / LINKS
        target = self._centre + self._size * np.sin(self._rate * tick * DT + self._phase)
        return np.linalg.norm(tips - target, axis=1) + _EFFORT * np.square(actions, dtype=float).sum(axis=1)


def closed_loop_return(make: Callable[[int], Sampler], seed: int, *, warm: bool) -> float:
    """The return of TICKS ticks, planned anew at each by the sampler that `make` builds for `seed`.

    warm: the last plan, shifted, is a candidate; otherwise every tick starts from standing still.
    """
    arm, sampler = Follower(seed), make(seed)
    hold = np.zeros((sampler.config.horizon, LINKS), np.float32)
    plan, total = hold, 0.0
    for _ in range(TICKS):
        shifted = np.concatenate([plan[1:], plan[-1:]])
        plan = sampler.solve([shifted, hold] if warm else [hold], arm.cost).actions
        total += arm.apply(plan[0])
    return total

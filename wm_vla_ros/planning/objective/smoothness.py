"""Small changes of action from tick to tick: the gate has nothing to cut, the gears nothing to rattle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts

# Change of action, per tick, that costs one.
CHANGE_SCALE = 0.05


@dataclass(frozen=True, slots=True)
class Smoothness:
    """Squared change of action, the step from the action in force included, in units of `scale`."""

    weight: float
    scale: float = CHANGE_SCALE
    name: str = "smoothness"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks."""
        first = rollouts.actions[:, :1] - rollouts.previous
        change = np.concatenate([first, np.diff(rollouts.actions, axis=1)], axis=1) / self.scale
        return self.weight * np.einsum("nha,nha->n", change, change).astype(np.float64) / change.shape[1]

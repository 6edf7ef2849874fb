"""Little motion where little will do: of two plans that serve the goal alike, the slower tool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts

# Of an action's numbers: translation and rotation. The gripper's is a position, which is no effort to hold.
_MOTION = 6


@dataclass(frozen=True, slots=True)
class Effort:
    """Squared translation and rotation per tick, in units of `scale` of the action's range.

    A fifth of an SO-101's range is 0.2 m/s and 2 rad/s.
    """

    weight: float
    scale: float = 0.2
    name: str = "effort"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks, sum over the six axes."""
        motion = rollouts.actions[:, :, :_MOTION] / self.scale
        return self.weight * np.einsum("nha,nha->n", motion, motion).astype(np.float64) / motion.shape[1]

"""Keep the tool above the table: inverse kinematics would stop it, but only at the surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts


@dataclass(frozen=True, slots=True)
class Workspace:
    """Squared depth of the tip below `lowest` metres, in units of `scale`. column: the tip's z."""

    column: int
    weight: float
    lowest: float
    scale: float = 0.003
    name: str = "workspace"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks."""
        depth = np.maximum(0.0, self.lowest - rollouts.grounded[:, :, self.column]) / self.scale
        return self.weight * np.mean(np.square(depth, dtype=np.float64), axis=1)

"""Few ticks left to the goal: distance as the time that it takes, learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts
from wm_vla_ros.world_models.heads import Heads


@dataclass(frozen=True, slots=True)
class TemporalDistance:
    """Control ticks (`Heads.ticks`) from each rollout's last latent to the goal's, in units of `scale`."""

    weight: float
    heads: Heads
    scale: float = 10.0
    name: str = "temporal_distance"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) of the last tick."""
        ticks = self.heads.ticks(rollouts.latents[:, -1], rollouts.goal_latent)
        return self.weight * ticks.astype(np.float64) / self.scale

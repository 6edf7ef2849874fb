"""Come to where the goal's path ends, whatever the way: the goal of a policy that only knows the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts


@dataclass(frozen=True, slots=True)
class LatentPoint:
    """Squared latent distance from the goal's last latent, per dimension, weighed as the goal says.

    All ticks count, so that arriving earlier costs less. In contact the end alone leads the tool through
    what it should push: there the path (`LatentTracking`) says more.
    """

    weight: float
    name: str = "latent_point"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks and latent dimensions."""
        error = rollouts.latents - rollouts.goal_latent
        weighted = error * rollouts.latent_weight
        return self.weight * np.einsum("nhd,nhd->n", error, weighted).astype(np.float64) / error[0].size

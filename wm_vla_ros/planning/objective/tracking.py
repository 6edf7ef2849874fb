"""Follow the goal's imagined path: in the grounded metres that decide success, and in the latent itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts

# Metres that cost one, and how much more the last tick weighs.
TIP_SCALE, TERMINAL = 0.005, 3.0


@dataclass(frozen=True, slots=True)
class TipTracking:
    """Squared distance of grounded positions from the path's, in units of `scale` metres.

    columns: of the grounding that count: the tip, or objects. The last tick weighs `terminal` times more:
    what is left at the end of the horizon has to be travelled later.
    """

    name: str
    columns: tuple[int, ...]
    weight: float
    scale: float = TIP_SCALE
    terminal: float = TERMINAL

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks."""
        error = (rollouts.grounded - rollouts.target_grounded).take(self.columns, axis=2)
        squared = np.einsum("nhg,nhg->nh", error, error).astype(np.float64) / self.scale**2
        squared[:, -1] *= self.terminal
        return self.weight * squared.mean(axis=1)


@dataclass(frozen=True, slots=True)
class LatentTracking:
    """Squared latent distance from the path's latents, per dimension: carries what no grounding names."""

    weight: float
    name: str = "latent"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks and latent dimensions."""
        error = rollouts.latents - rollouts.target_latents
        weighted = error * rollouts.latent_weight
        return self.weight * np.einsum("nhd,nhd->n", error, weighted).astype(np.float64) / error[0].size

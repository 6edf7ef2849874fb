"""Prefer futures that the world model knows: where its imagination errs, other costs say little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts
from wm_vla_ros.planning.objective.tracking import TIP_SCALE
from wm_vla_ros.world_models.heads import Heads


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Squared metres by which a rollout may be off at its end (`Heads.error`), in units of `scale` metres.

    The scale is that of `TipTracking`: what may be missed costs as much as what is.
    """

    weight: float
    heads: Heads
    scale: float = TIP_SCALE
    name: str = "uncertainty"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) of the whole rollout."""
        error = self.heads.error(rollouts.latents, rollouts.actions).astype(np.float64)
        return self.weight * np.square(error / self.scale)

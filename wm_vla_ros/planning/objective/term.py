"""The contract of an objective term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the terms judge: N imagined futures of H ticks.

    actions: (N, H, A). previous: (A,) the action in force just before. latents: (N, H, D). grounded:
    (N, H, G) metres. target_latents: (H, D) and target_grounded: (H, G): the goal's path for these ticks.
    latent_weight: of each latent dimension, (D,) or one for all: the goal's confidence times its precision.
    """

    actions: FloatArray
    previous: FloatArray
    latents: FloatArray
    grounded: FloatArray
    target_latents: FloatArray
    target_grounded: FloatArray
    latent_weight: FloatArray | float = 1.0


class Term(Protocol):
    """One cost of a plan."""

    @property
    def name(self) -> str:
        """What a plan reports when this term dominates."""
        ...

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) cost, at least 0."""
        ...

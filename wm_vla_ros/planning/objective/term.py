"""The contract of an objective term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.linearised_arm import LinearisedArm
from wm_vla_ros.types import FloatArray


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the terms judge: N imagined futures of H ticks.

    actions: (N, H, A). previous: (A,) the action in force just before. latents: (N, H, D). grounded:
    (N, H, G) metres. target_latents: (H, D) and target_grounded: (H, G): the goal's path for these ticks.
    latent_weight: of each latent dimension, (D,) or one for all: the goal's confidence times its precision.
    goal_latent: (D,) where the path ends. chunk: (H, A) the slow policy's own motion in these ticks, or None
    without one. chunk_trust: in [0, 1], what that motion still counts. joints: (N, H, n) rad, and the arm
    whose they are, for an objective that asks for them.
    """

    actions: FloatArray
    previous: FloatArray
    latents: FloatArray
    grounded: FloatArray
    target_latents: FloatArray
    target_grounded: FloatArray
    latent_weight: FloatArray | float
    goal_latent: FloatArray
    chunk: FloatArray | None = None
    chunk_trust: float = 0.0
    joints: FloatArray | None = None
    arm: LinearisedArm | None = None


class Term(Protocol):
    """One cost of a plan."""

    @property
    def name(self) -> str:
        """What a plan reports when this term dominates."""
        ...

    @property
    def weight(self) -> float:
        """Factor of the cost; at 0 the term is left out."""
        ...

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) cost, at least 0."""
        ...

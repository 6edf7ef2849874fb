"""Prefer futures that the world model knows: where its imagination errs, other costs say little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts
from wm_vla_ros.planning.objective.tracking import TIP_SCALE
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel


class ExpectedError(Protocol):
    """What knows where imagination errs: `Heads`, or the model's own `Spread`."""

    def error(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """(N,) metres by which the rollouts (N, H, D) under actions (N, H, A) may be off at their end."""
        ...


class Spread:
    """The standard deviations that a model gives tip and cubes at a rollout's end, as one vector."""

    def __init__(self, model: WorldModel) -> None:
        self._model = model
        names = model.grounding_names
        self._moving = [i for i, name in enumerate(names) if name.startswith("tip.") or "cube" in name]

    def error(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """See `ExpectedError`."""
        spread = self._model.spread(latents[:, -1])
        assert spread is not None  # asked for before this was made
        return np.linalg.norm(spread[:, self._moving], axis=1)


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Squared metres by which a rollout may be off at its end, in units of `scale` metres.

    The scale is that of `TipTracking`: what may be missed costs as much as what is.
    """

    weight: float
    expected: ExpectedError
    scale: float = TIP_SCALE
    name: str = "uncertainty"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) of the whole rollout."""
        error = self.expected.error(rollouts.latents, rollouts.actions).astype(np.float64)
        return self.weight * np.square(error / self.scale)

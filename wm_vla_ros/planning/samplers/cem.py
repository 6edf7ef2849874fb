"""The cross-entropy method as textbooks have it: fit a Gaussian to the elites, draw from it, and again.

Rubinstein & Kroese, "The Cross-Entropy Method", 2004; for planning with a learned model as in Hafner et al.,
"Learning Latent Dynamics for Planning from Pixels", ICML 2019 (1000 samples, 100 elites).
White noise, every tick for itself; it forgets between ticks but for the candidates that it is given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.samplers.sampler import Sampler, SamplerConfig
from wm_vla_ros.types import FloatArray


class Cem(Sampler):
    """elite_share: of the samples, that the next Gaussian is fitted to."""

    def __init__(self, config: SamplerConfig, rng: np.random.Generator, *, elite_share: float = 0.1) -> None:
        super().__init__(config, rng)
        self._elites = max(2, round(elite_share * config.samples))

    def _begin(self, given: FloatArray, shift: int) -> None:
        self._given = given
        self._mean = given[0]
        self._std = np.broadcast_to(self._sigma, given[0].shape)

    def _draw(self, iteration: int) -> FloatArray:
        given = self._given if iteration == 0 else self._given[:0]
        shape = (self.config.samples - len(given), *self._mean.shape)
        noise = self._rng.standard_normal(shape, dtype=np.float32)
        return np.concatenate([given, self._mean + noise * self._std])

    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        count = min(self._elites, len(costs))
        elites = population[np.argpartition(costs, count - 1)[:count]]
        self._mean, self._std = elites.mean(axis=0), elites.std(axis=0)

    def _answer(self, best: FloatArray) -> FloatArray:
        return self._mean

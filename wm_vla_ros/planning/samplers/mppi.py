"""MPPI with smooth noise: the mean of the samples, weighted by how little they cost.

Williams et al., "Information Theoretic MPC for Model-Based Reinforcement Learning", ICRA 2017, eq. (9):
weights exp(-cost / temperature). The noise is smooth (`noise`): spline knots, or coloured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.samplers.sampler import Sampler, SamplerConfig
from wm_vla_ros.types import FloatArray


class Mppi(Sampler):
    """basis: (H, K) of the noise. temperature: relative to the spread of the best quarter of the costs.

    shrink: of the noise per iteration.
    """

    def __init__(
        self,
        config: SamplerConfig,
        rng: np.random.Generator,
        *,
        basis: FloatArray,
        temperature: float = 0.3,
        shrink: float = 0.5,
    ) -> None:
        super().__init__(config, rng)
        self.basis = basis
        self.temperature = temperature
        self.shrink = np.float32(shrink)

    def _begin(self, given: FloatArray, shift: int) -> None:
        self._centres, self._spread = given, self._sigma

    def _draw(self, iteration: int) -> FloatArray:
        """The centres, then smooth perturbations of each in turn."""
        centres = self._centres
        count = self.config.samples - len(centres)
        shape = (count, self.basis.shape[1], len(self._sigma))
        noise = self.basis @ (self._rng.standard_normal(shape, dtype=np.float32) * self._spread)
        return np.concatenate([centres, centres[np.arange(count) % len(centres)] + noise])

    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        lowest = costs.min()
        spread = np.partition(costs, len(costs) // 4)[len(costs) // 4] - lowest
        weights = np.exp(-(costs - lowest) / max(self.temperature * spread, 1e-9))
        weights = (weights / weights.sum()).astype(np.float32)
        self._mean = (weights @ population.reshape(len(population), -1)).reshape(best.shape)
        self._centres = np.stack([self._mean, best])
        self._spread = self._spread * self.shrink

    def _answer(self, best: FloatArray) -> FloatArray:
        return self._mean

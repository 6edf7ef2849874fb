"""iCEM: coloured noise, elites that are kept within a tick and shifted to the next, a shrinking population.

Pinneri et al., "Sample-efficient Cross-Entropy Method for Real-time Planning", CoRL 2020, with its published
values (decay 1.25, kept share 0.3, momentum 0.1). Executed is the best sequence seen, not a mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.samplers.noise import colored_basis, fewer_numbers
from wm_vla_ros.planning.samplers.sampler import Sampler, SamplerConfig
from wm_vla_ros.types import FloatArray

# Matrix kernels take rows in sixes (AVX2) or twelves (AVX-512), and a row beyond costs as much as two.
_ROWS = 6


class Icem(Sampler):
    """beta: colour of the noise. elite_share: of the samples. The population shrinks from `samples` on."""

    def __init__(
        self,
        config: SamplerConfig,
        rng: np.random.Generator,
        *,
        beta: float = 3.0,
        elite_share: float = 0.1,
        kept_share: float = 0.3,
        decay: float = 1.25,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(config, rng)
        self._basis = fewer_numbers(colored_basis(config.horizon, beta))
        self._elite_count = max(2, round(elite_share * config.samples))
        self._kept_count = max(1, round(kept_share * self._elite_count))
        self._sizes = [self._size(config.samples * decay**-i, i) for i in range(config.iterations)]
        self._momentum = np.float32(momentum)
        self._elites: FloatArray | None = None

    def _size(self, samples: float, iteration: int) -> int:
        whole = int(samples)
        return max(2 * self._elite_count, whole - whole % _ROWS if iteration else whole)

    def _begin(self, given: FloatArray, shift: int) -> None:
        kept = self._shifted(shift)
        room = self.config.samples - len(given) - 1
        self._extra = np.concatenate([given, kept[:room]])
        self._mean = given[0]
        self._std = self._sigma

    def _draw(self, iteration: int) -> FloatArray:
        if iteration:
            self._fit()
        extra, last = self._extra, iteration == self.config.iterations - 1
        known = len(extra) + last  # the last population has the mean among it
        size = max(self._sizes[iteration], known + 1)
        population = np.empty((size, *self._mean.shape), np.float32)
        population[: len(extra)] = extra
        if last:
            population[len(extra)] = self._mean
        # One product for all samples, and few calls: at these sizes it is their number that costs.
        count, (horizon, actions) = size - known, self._mean.shape
        numbers = self._rng.standard_normal((horizon, count * actions), dtype=np.float32)
        noise = (self._basis @ numbers).reshape(horizon, count, actions).transpose(1, 0, 2)
        drawn = np.multiply(noise, self._std, out=population[known:])
        drawn += self._mean
        return population

    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        count = min(self._elite_count, len(costs))
        order = np.argsort(costs)[:count]
        self._elites = population[order]
        self._extra = self._elites[: self._kept_count]

    def _fit(self) -> None:
        """Mean and deviation for the next population: after the last there is none, and nothing to fit."""
        assert self._elites is not None
        share = np.float32(1.0 / len(self._elites))
        mean = np.add.reduce(self._elites)
        mean *= share
        away = self._elites - mean
        away *= away
        variance = np.add.reduce(away)
        variance *= share
        std = np.sqrt(variance, out=variance)
        mean += self._momentum * (self._mean - mean)
        std += self._momentum * (self._std - std)
        self._mean, self._std = mean, std

    def _answer(self, best: FloatArray) -> FloatArray:
        return best

    def _shifted(self, shift: int) -> FloatArray:
        """The last tick's best elites (n, H, A), moved on by `shift` ticks, their last action repeated."""
        if self._elites is None:
            return np.zeros((0, self.config.horizon, len(self._sigma)), np.float32)
        rows = np.minimum(np.arange(shift, shift + self.config.horizon), self.config.horizon - 1)
        return self._elites[: self._kept_count, rows]

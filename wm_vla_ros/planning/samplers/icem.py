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
        self._decay = decay
        self._momentum = np.float32(momentum)
        self._elites: FloatArray | None = None

    def _begin(self, given: FloatArray, shift: int) -> None:
        kept = self._shifted(shift)
        room = self.config.samples - len(given) - 1
        self._extra = np.concatenate([given, kept[:room]])
        self._mean = given[0]
        self._std = self._sigma
        self._best_cost = np.inf

    def _draw(self, iteration: int) -> FloatArray:
        if iteration:
            self._fit()
        extra = self._extra
        if iteration == self.config.iterations - 1:
            extra = np.concatenate([extra, self._mean[None]])
        least = 2 * self._elite_count
        size = int(self.config.samples * self._decay**-iteration)
        size = max(least, size - size % _ROWS if iteration else size)
        count, actions = max(1, size - len(extra)), len(self._sigma)
        # One product for all samples: at these sizes it is the number of products that costs.
        numbers = self._rng.standard_normal((self._basis.shape[1], count * actions), dtype=np.float32)
        noise = (self._basis @ numbers).reshape(-1, count, actions).transpose(1, 0, 2)
        return np.concatenate([extra, self._mean + noise * self._std])

    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        count = min(self._elite_count, len(costs))
        order = np.argsort(costs)[:count]
        self._elites = population[order]
        self._extra = self._elites[: self._kept_count]

    def _fit(self) -> None:
        """Mean and deviation for the next population: after the last there is none, and nothing to fit."""
        assert self._elites is not None
        keep, count = self._momentum, np.float32(len(self._elites))
        mean = np.add.reduce(self._elites) / count
        away = self._elites - mean
        self._mean = keep * self._mean + (1 - keep) * mean
        self._std = keep * self._std + (1 - keep) * np.sqrt(np.einsum("nha,nha->ha", away, away) / count)

    def _answer(self, best: FloatArray) -> FloatArray:
        return best

    def _shifted(self, shift: int) -> FloatArray:
        """The last tick's best elites (n, H, A), moved on by `shift` ticks, their last action repeated."""
        if self._elites is None:
            return np.zeros((0, self.config.horizon, len(self._sigma)), np.float32)
        rows = np.minimum(np.arange(shift, shift + self.config.horizon), self.config.horizon - 1)
        return self._elites[: self._kept_count, rows]

"""Descend the objective's own gradient, through the world model, from the best of what was tried.

Projected Adam (Kingma & Ba, ICLR 2015, algorithm 1) on action sequences, after one sampled population: the
gradient leads to the bottom of a valley and not to another one. Executed is the best sequence judged, so
that it is never worse than the best candidate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.samplers.noise import KNOTS, spline_basis
from wm_vla_ros.planning.samplers.sampler import Sampler, SamplerConfig
from wm_vla_ros.types import FloatArray

_EPSILON = 1e-8


class Gradient(Sampler):
    """kept_share: of the samples, from which is descended. rate: of a step, relative to sigma.

    A dimension whose sigma is 0 stays as the candidates have it. beta: decay of the two moments.
    """

    _at: FloatArray  # (n, H, A), with Adam's two moments of it after so many steps
    _first: FloatArray
    _second: FloatArray
    _steps: int

    def __init__(
        self,
        config: SamplerConfig,
        rng: np.random.Generator,
        *,
        kept_share: float = 0.25,
        rate: float = 0.4,
        beta: tuple[float, float] = (0.7, 0.9),
    ) -> None:
        super().__init__(config, rng)
        self._basis = spline_basis(config.horizon, KNOTS)
        self._kept = max(2, round(kept_share * config.samples))
        self._step = np.float32(rate) * self._sigma
        self._beta = beta
        self._restart(np.zeros((0, config.horizon, len(config.sigma)), np.float32))

    def _begin(self, given: FloatArray, shift: int) -> None:
        if self._gradient is None:
            raise ValueError("sampler 'gradient' needs the objective's gradient: a world model under torch")
        self._best = given[0]
        self._restart(given)

    def _draw(self, iteration: int) -> FloatArray:
        """First the candidates and smooth perturbations of each in turn; then one step of descent."""
        at = self._at
        if iteration == 0:
            count = self.config.samples - len(at)
            shape = (count, self._basis.shape[1], len(self._sigma))
            noise = self._basis @ (self._rng.standard_normal(shape, dtype=np.float32) * self._sigma)
            return np.concatenate([at, at[np.arange(count) % len(at)] + noise])
        assert self._gradient is not None
        slope = self._gradient(at)
        known = np.isfinite(slope).all(axis=(1, 2))
        if not known.all():  # where there is no slope there is no way down
            self._restart(at[known])
            slope = slope[known]
        if not len(slope):
            return self._best[None]
        first, second = self._beta
        self._steps += 1
        self._first = first * self._first + (1 - first) * slope
        self._second = second * self._second + (1 - second) * slope**2
        mean = self._first / (1 - first**self._steps)
        size = np.sqrt(self._second / (1 - second**self._steps)) + _EPSILON
        return (self._at - self._step * mean / size).astype(np.float32)

    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        """Go on from where bounds have left the population; the first one's best are where it begins."""
        self._best = best
        if len(population) == len(self._at) and self._steps:
            self._at = population
        else:
            self._restart(population[np.argsort(costs)[: self._kept]])

    def _answer(self, best: FloatArray) -> FloatArray:
        return best

    def _restart(self, at: FloatArray) -> None:
        """Descend from `at` (n, H, A), with nothing remembered of the way there."""
        self._at, self._steps = at, 0
        self._first, self._second = np.zeros_like(at), np.zeros_like(at)

"""MPPI with spline knots: smooth noise, warm start, and candidates from outside.

Williams et al., "Information Theoretic MPC for Model-Based Reinforcement Learning", ICRA 2017, eq. (9):
the mean of the sampled sequences, weighted by exp(-cost / temperature). Noise lives on a few spline knots,
so that every sample is a motion that an arm can follow and few samples are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray


@dataclass(frozen=True, slots=True)
class MppiConfig:
    """samples and iterations set the number of model calls. sigma: (A,) std of the noise, action units.

    temperature: relative to the spread of the best quarter of the costs. shrink: of sigma per iteration.
    """

    sigma: tuple[float, ...]
    horizon: int = 10
    samples: int = 16
    iterations: int = 2
    knots: int = 4
    temperature: float = 0.3
    shrink: float = 0.5
    lower: tuple[float, ...] = (-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0.0)
    upper: tuple[float, ...] = (1.0,) * 7


@dataclass(frozen=True, slots=True)
class Solution:
    """actions: (H, A). cost: of these actions' best sample. iterations: that were finished."""

    actions: FloatArray
    cost: float
    iterations: int


class NoFiniteCost(RuntimeError):
    """Every candidate's cost is NaN or infinite: there is nothing to choose from."""


class Mppi:
    """One planner instance; reproducible from `rng`. `solve` may be called every tick."""

    def __init__(self, config: MppiConfig, rng: np.random.Generator) -> None:
        if not len(config.sigma) == len(config.lower) == len(config.upper):
            raise ValueError("sigma, lower and upper must have one entry per action dimension")
        self.config = config
        self._rng = rng
        self._basis = _spline_basis(config.horizon, config.knots)
        self._lower = np.asarray(config.lower, np.float32)
        self._upper = np.asarray(config.upper, np.float32)

    def solve(
        self,
        candidates: Sequence[FloatArray],
        cost: Callable[[FloatArray], NDArray[np.float64]],
        out_of_time: Callable[[], bool] = lambda: False,
    ) -> Solution:
        """The best sequence found. candidates: each (H, A), at least one; they are evaluated as they are.

        cost: maps (N, H, A) to (N,). out_of_time is asked between iterations. Raises NoFiniteCost when no
        sample of the first population has a finite cost, and ValueError on a candidate of another shape.
        """
        config = self.config
        shape = (config.horizon, len(config.sigma))
        given = np.stack([np.asarray(candidate, np.float32) for candidate in candidates])
        if given.shape[1:] != shape or len(given) >= config.samples:
            raise ValueError(f"candidates are {given.shape}, need fewer than {config.samples} of {shape}")
        centres, sigma = given, np.asarray(config.sigma, np.float32)
        best, best_cost, done = given[0], np.inf, 0
        for _ in range(config.iterations):
            population = self._population(centres, sigma)
            costs = cost(population)
            finite = np.isfinite(costs)
            if not finite.any():
                if done == 0:
                    raise NoFiniteCost(f"all {len(costs)} candidates cost NaN or infinity")
                break
            population, costs = population[finite], costs[finite]
            lowest = int(np.argmin(costs))
            if costs[lowest] < best_cost:
                best, best_cost = population[lowest], float(costs[lowest])
            mean = self._weighted_mean(population, costs)
            centres = np.stack([mean, best])
            sigma = sigma * np.float32(config.shrink)
            done += 1
            if out_of_time():
                break
        return Solution(mean, best_cost, done)

    def _population(self, centres: FloatArray, sigma: FloatArray) -> FloatArray:
        """The centres, then smooth perturbations of each in turn: (samples, H, A), within bounds."""
        config = self.config
        count = config.samples - len(centres)
        knots = self._rng.standard_normal((count, config.knots, len(sigma)), dtype=np.float32) * sigma
        around = centres[np.arange(count) % len(centres)]
        return np.clip(np.concatenate([centres, around + self._basis @ knots]), self._lower, self._upper)

    def _weighted_mean(self, population: FloatArray, costs: NDArray[np.float64]) -> FloatArray:
        lowest = costs.min()
        spread = np.partition(costs, len(costs) // 4)[len(costs) // 4] - lowest
        weights = np.exp(-(costs - lowest) / max(self.config.temperature * spread, 1e-9))
        return np.einsum("n,nha->ha", (weights / weights.sum()).astype(np.float32), population)


def _spline_basis(horizon: int, knots: int) -> FloatArray:
    """(horizon, knots) matrix of a natural cubic spline through equally spaced knots."""
    from scipy.interpolate import CubicSpline

    at = np.linspace(0.0, 1.0, knots)
    ticks = np.linspace(0.0, 1.0, horizon)
    return CubicSpline(at, np.eye(knots), bc_type="natural")(ticks).astype(np.float32)

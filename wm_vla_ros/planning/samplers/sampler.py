"""What every sampler does alike: candidates in, bounds and finite costs kept, time watched, best kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.samplers.motion_limits import MotionLimits
from wm_vla_ros.types import FloatArray

Cost = Callable[[FloatArray], NDArray[np.float64]]
Slope = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """samples and iterations set the number of model calls. sigma: (A,) std of the noise, action units.

    lower, upper: (A,) bounds of an action. limits: of the motion, None for none.
    """

    sigma: tuple[float, ...]
    horizon: int = 10
    samples: int = 16
    iterations: int = 2
    lower: tuple[float, ...] = (-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0.0)
    upper: tuple[float, ...] = (1.0,) * 7
    limits: MotionLimits | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """actions: (H, A). cost: of the best sample that was judged. iterations: that were finished."""

    actions: FloatArray
    cost: float
    iterations: int


class NoFiniteCost(RuntimeError):
    """Every candidate's cost is NaN or infinite: there is nothing to choose from."""


class Sampler(ABC):
    """One planner instance; reproducible from `rng`. `solve` may be called every tick.

    A member draws populations (`_begin`, `_draw`) and learns from their costs (`_learn`, `_answer`).
    """

    def __init__(self, config: SamplerConfig, rng: np.random.Generator) -> None:
        """Raises ValueError unless sigma and the bounds have one entry per action dimension."""
        sizes = {len(each) for each in (config.sigma, config.lower, config.upper)}
        if len(sizes) != 1:
            raise ValueError("sigma, lower and upper must have one entry per action dimension")
        self.config = config
        self._rng = rng
        self._lower = np.asarray(config.lower, np.float32)
        self._upper = np.asarray(config.upper, np.float32)
        self._sigma = np.asarray(config.sigma, np.float32)

    def solve(
        self,
        candidates: Sequence[FloatArray],
        cost: Cost,
        out_of_time: Callable[[], bool] = lambda: False,
        *,
        shift: int = 1,
        last: FloatArray | None = None,
        gradient: Slope | None = None,
    ) -> Solution:
        """The best sequence found. candidates: each (H, A), at least one; all are judged, within the limits.

        cost: maps (N, H, A) to (N,). out_of_time is asked between iterations. shift: ticks since the last
        call's first action, for a sampler that remembers. last: (2, A) actions before the first, from which
        the motion limits count; at rest when not given. gradient: of each sequence's cost, (N, H, A) to
        (N, H, A), for a sampler that descends. Raises NoFiniteCost when no sample of the first population has
        a finite cost, and ValueError on a candidate of another shape.
        """
        config = self.config
        shape = (config.horizon, len(config.sigma))
        given = np.array(candidates, np.float32)
        if given.shape[1:] != shape or len(given) >= config.samples:
            raise ValueError(f"candidates are {given.shape}, need fewer than {config.samples} of {shape}")
        self._gradient = gradient
        self._begin(given, shift)
        best, best_cost, done = given[0], np.inf, 0
        for iteration in range(config.iterations):
            population = self._within(self._draw(iteration), last)
            costs = cost(population)
            finite = np.isfinite(costs)
            if not finite.all():
                if not finite.any():
                    if done == 0:
                        raise NoFiniteCost(f"all {len(costs)} candidates cost NaN or infinity")
                    break
                population, costs = population[finite], costs[finite]
            lowest = int(np.argmin(costs))
            if costs[lowest] < best_cost:
                best, best_cost = population[lowest], float(costs[lowest])
            self._learn(population, costs, best)
            done += 1
            if out_of_time():
                break
        return Solution(self._answer(best), best_cost, done)

    def _within(self, population: FloatArray, last: FloatArray | None) -> FloatArray:
        inside = np.maximum(population, self._lower)
        np.minimum(inside, self._upper, out=inside)
        limits = self.config.limits
        if limits is None:
            return inside
        return limits.apply(inside, np.zeros((2, inside.shape[2]), np.float32) if last is None else last)

    @abstractmethod
    def _begin(self, given: FloatArray, shift: int) -> None:
        """Start a tick from the candidates `given` (n, H, A)."""

    @abstractmethod
    def _draw(self, iteration: int) -> FloatArray:
        """The population (N, H, A) of this iteration; the first holds the candidates."""

    @abstractmethod
    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        """Take in costs (N,), all finite, of `population` (N, H, A). best: (H, A) of this tick so far."""

    @abstractmethod
    def _answer(self, best: FloatArray) -> FloatArray:
        """The plan (H, A)."""

"""Who solves a tick's problem: a sampler, or one program in torch, as sampler and runtime ask for it.

Torch is loaded only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.objective import Term
from wm_vla_ros.planning.problem import PlanningProblem
from wm_vla_ros.planning.samplers import (
    Gradient,
    MotionLimits,
    Mppi,
    NoFiniteCost,
    Sampler,
    Solution,
    make_sampler,
)
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

if TYPE_CHECKING:
    from wm_vla_ros.planning.on_device.whole_plan import WholePlan
    from wm_vla_ros.world_models.torch_runtime import TorchWorldModel


class Search:
    """Solves one `PlanningProblem` after another, within the motion limits; reproducible from `seed`."""

    def __init__(
        self, model: WorldModel, terms: Sequence[Term], config: MpcConfig, spec: RobotSpec | None, seed: int
    ) -> None:
        """terms: of the objective. spec: None for no limits on a tip's motion.

        Raises ValueError for an unknown method, or where the model's runtime has not what the sampler needs,
        or the reverse.
        """
        limits = None
        if spec is not None:
            bounds = config.max_speed, config.max_acceleration, config.max_jerk
            limits = MotionLimits.per_tick(*bounds, dt=spec.dt, scale=spec.translation_scale)
        rng = np.random.default_rng(seed)
        self._sampler = make_sampler(config.method, replace(config.sampler, limits=limits), rng)
        self._gradient, self._whole_plan = _parts_in_torch(model, terms, self._sampler, seed)

    def solve(self, problem: PlanningProblem, out_of_time: Callable[[], bool]) -> Solution:
        """out_of_time: as in `Sampler.solve`. Raises NoFiniteCost when a second try finds none either."""
        try:
            return self._solve(problem, out_of_time)
        except NoFiniteCost:  # other noise may find a future that is finite
            return self._solve(problem, out_of_time)

    def _solve(self, problem: PlanningProblem, out_of_time: Callable[[], bool]) -> Solution:
        candidates, last = problem.candidates, problem.last
        if self._whole_plan is not None:  # runs to its end: there is no way to look at the time in it
            return self._whole_plan.solve(candidates, problem.latent, problem.bias, problem.asked, last)
        slope = None
        if self._gradient is not None:
            slope = partial(self._gradient, latent=problem.latent, bias=problem.bias, asked=problem.asked)
        shift = problem.shift
        return self._sampler.solve(
            candidates, problem.cost, out_of_time, shift=shift, last=last, gradient=slope
        )


def _parts_in_torch(
    model: WorldModel, terms: Sequence[Term], sampler: Sampler, seed: int
) -> tuple[Callable[..., FloatArray] | None, WholePlan | None]:
    """The objective's gradient (`TorchObjective.gradient`) and what makes whole plans, or None for each."""
    if isinstance(sampler, Gradient):
        if not hasattr(model, "imagine"):
            raise ValueError("sampler 'gradient' needs the gradient through the model: use runtime 'torch'")
        from wm_vla_ros.planning.on_device.torch_objective import TorchObjective

        horizon = sampler.config.horizon
        return TorchObjective(cast("TorchWorldModel", model), terms, horizon).gradient, None
    if not getattr(model, "whole_plan", False):
        return None, None
    if not isinstance(sampler, Mppi):
        name = type(sampler).__name__.lower()
        raise ValueError(f"runtime 'cuda-graph' plans with mppi_spline or mppi_colored, got {name}")
    from wm_vla_ros.planning.on_device.whole_plan import WholePlan

    return None, WholePlan(cast("TorchWorldModel", model), terms, sampler, seed)

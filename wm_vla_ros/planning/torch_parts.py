"""What of the planner is in torch, where sampler and runtime ask for it. Torch is loaded only then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from wm_vla_ros.planning.objective import Term
from wm_vla_ros.planning.samplers import Gradient, Mppi, Sampler
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

if TYPE_CHECKING:
    from wm_vla_ros.torch_planning.whole_plan import WholePlan
    from wm_vla_ros.world_models.torch_runtime import TorchWorldModel


def parts_in_torch(
    model: WorldModel, terms: Sequence[Term], sampler: Sampler, seed: int
) -> tuple[Callable[..., FloatArray] | None, WholePlan | None]:
    """The objective's gradient (`TorchObjective.gradient`) and the planner of whole plans, or None for each.

    Raises ValueError where the model's runtime has not what the sampler needs, or the reverse.
    """
    if isinstance(sampler, Gradient):
        if not hasattr(model, "imagine"):
            raise ValueError("sampler 'gradient' needs the gradient through the model: use runtime 'torch'")
        from wm_vla_ros.torch_planning.objective import TorchObjective

        horizon = sampler.config.horizon
        return TorchObjective(cast("TorchWorldModel", model), terms, horizon).gradient, None
    if not getattr(model, "whole_plan", False):
        return None, None
    if not isinstance(sampler, Mppi):
        name = type(sampler).__name__.lower()
        raise ValueError(f"runtime 'cuda-graph' plans with mppi_spline or mppi_colored, got {name}")
    from wm_vla_ros.torch_planning.whole_plan import WholePlan

    return None, WholePlan(cast("TorchWorldModel", model), terms, sampler, seed)

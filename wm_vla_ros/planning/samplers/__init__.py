"""Samplers by name: populations of action sequences, and how costs turn them into a plan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_vla_ros.planning.samplers.cem import Cem
from wm_vla_ros.planning.samplers.gradient import Gradient
from wm_vla_ros.planning.samplers.icem import Icem
from wm_vla_ros.planning.samplers.motion_limits import MotionLimits
from wm_vla_ros.planning.samplers.mppi import Mppi
from wm_vla_ros.planning.samplers.noise import KNOTS, colored_basis, spline_basis
from wm_vla_ros.planning.samplers.sampler import NoFiniteCost, Sampler, SamplerConfig, Solution

__all__ = [
    "SAMPLERS",
    "Gradient",
    "MotionLimits",
    "Mppi",
    "NoFiniteCost",
    "Sampler",
    "SamplerConfig",
    "Solution",
    "make_sampler",
]

_COLOR = 3.0

SAMPLERS: dict[str, Callable[[SamplerConfig, np.random.Generator], Sampler]] = {
    "mppi_spline": lambda config, rng: Mppi(config, rng, basis=spline_basis(config.horizon, KNOTS)),
    "mppi_colored": lambda config, rng: Mppi(config, rng, basis=colored_basis(config.horizon, _COLOR)),
    "icem": Icem,
    "cem": Cem,
    "gradient": Gradient,
}


def make_sampler(name: str, config: SamplerConfig, rng: np.random.Generator) -> Sampler:
    """The sampler called `name`. Raises ValueError listing the valid names."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; valid: {', '.join(SAMPLERS)}")
    return SAMPLERS[name](config, rng)

"""What a tick of the fast loop costs under a runtime of the world model: `wm-vla bench plan --runtime`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from wm_vla_ros import world_models
from wm_vla_ros.bench.plan.bench import SearchBudget
from wm_vla_ros.planning.calibration import TickTimes, choose_runtime, time_ticks
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.report import Figure, percentiles
from wm_vla_ros.robots.spec import load_robot


def run_runtime(
    runtime: str,
    budgets: Sequence[SearchBudget],
    repeats: int,
    world_model: str,
    robot: str,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Figure, ...]:
    """Times of `repeats` ticks at each budget; in `plan.per_second` those of the largest.

    plan: the search alone, from candidates to plan, as for the other planners of the benchmark. tick: all
    that the planner's thread does, predicted state, candidates and report included. Images are encoded in
    between and not counted. Raises ModelRefused where the runtime cannot be had.
    """
    spec, largest = load_robot(robot), max(budgets, key=lambda budget: budget.floor_flop)
    figures: list[Figure] = []
    for done, budget in enumerate(budgets):
        config = config_of(budget)
        name, model = choose_runtime(
            runtime,
            lambda name: world_models.load(world_model, robot=spec, runtime=name),
            spec,
            config,
            lambda line: print(f"{budget.name}: {line}", file=sys.stderr),  # noqa: B023 - called at once
        )
        taken = time_ticks(
            model,
            spec,
            config,
            repeats,
            lambda share: progress((done + share) / len(budgets)),  # noqa: B023 - called at once
        )
        if len(budgets) > 1:
            figures += _figures(f".{budget.name}", name, taken)
        if budget is largest:
            headline = [Figure("plan.budget", budget.name), *_figures("", name, taken)]
    return (*figures, *headline)


def config_of(budget: SearchBudget) -> MpcConfig:
    """The planner's own settings at another budget."""
    config = MpcConfig()
    size = replace(
        config.sampler, samples=budget.samples, iterations=budget.iterations, horizon=budget.horizon
    )
    return replace(config, method=budget.sampler, sampler=size)


def _figures(of: str, runtime: str, taken: TickTimes) -> list[Figure]:
    figures: list[Figure] = [Figure(f"plan{of}.runtime", runtime)]
    for name, times in (("plan", taken.searches), ("tick", taken.ticks)):
        figures += percentiles(f"{name}{of}.", times)
    figures.append(
        Figure(f"plan{of}.per_second", 1e3 / float(np.mean(taken.searches)), "1/s", len(taken.ticks))
    )
    return figures

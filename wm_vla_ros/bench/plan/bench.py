"""Times, floors and returns, measured in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.bench.plan.baselines import (
    TDMPC2,
    TEXTBOOK,
    Tdmpc2Sampler,
    lerobot_tdmpc,
    tdmpc2_plan,
    textbook_plan,
)
from wm_vla_ros.bench.plan.random_networks import (
    ACTION,
    LATENT,
    OnnxDynamics,
    gemm_peak,
    multiply_adds_per_step,
    tdmpc2_networks,
    torch_dynamics,
)
from wm_vla_ros.bench.plan.seven_links import closed_loop_return
from wm_vla_ros.planning.samplers import SAMPLERS, Sampler, SamplerConfig, make_sampler
from wm_vla_ros.report import Figure, mean_interval, percentiles

# Spread of the noise, action units, of every contestant but TD-MPC2, whose own is published. Tried for each:
# 0.3, 0.5, 0.6, 0.9 and 1.0; the wide ones are best for all, the textbook's too.
_SIGMA = 0.9


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """One contestant of ours: a sampler with samples x iterations rollouts of `horizon` steps."""

    sampler: str
    samples: int
    iterations: int
    horizon: int

    @property
    def name(self) -> str:
        return f"{self.sampler}.{self.samples}x{self.iterations}x{self.horizon}"

    def build(self, seed: int) -> Sampler:
        """The sampler, seeded."""
        config = SamplerConfig(
            (_SIGMA,) * ACTION,
            self.horizon,
            self.samples,
            self.iterations,
            lower=(-1.0,) * ACTION,
            upper=(1.0,) * ACTION,
        )
        return make_sampler(self.sampler, config, np.random.default_rng(seed))

    @property
    def floor_flop(self) -> float:
        """What the network's matrix products alone have to compute for all samples of all iterations.

        iCEM's population shrinks: it asks for an eighth to a sixth less than that.
        """
        return 2.0 * multiply_adds_per_step() * self.samples * self.iterations * self.horizon


def parse_budget(text: str) -> SearchBudget:
    """A budget from "SAMPLER:SAMPLESxITERATIONSxHORIZON". Raises ValueError that says what is expected."""
    name, _, size = text.strip().partition(":")
    numbers = size.split("x")
    if name not in SAMPLERS or len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        valid = ", ".join(SAMPLERS)
        raise ValueError(
            f"a budget is SAMPLER:SAMPLESxITERATIONSxHORIZON, SAMPLER one of {valid}; got {text!r}"
        )
    samples, iterations, horizon = (int(number) for number in numbers)
    if samples < 8 or iterations < 1 or horizon < 4:
        raise ValueError(f"a budget needs 8 samples, 1 iteration and 4 ticks at least, got {text!r}")
    return SearchBudget(name, samples, iterations, horizon)


def times_of(work: Callable[[], None], repeats: int) -> NDArray[np.float64]:
    """ms of `repeats` calls, after one in twenty (at least one) that is not counted: it allocates."""
    taken = []
    for _ in range(repeats + max(1, repeats // 20)):
        begin = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begin) * 1e3)
    return np.array(taken[-repeats:])


def our_plan(budget: SearchBudget) -> Callable[[], None]:
    """One plan as the fast loop makes it: rollouts in ONNX Runtime, the path tracked latent by latent."""
    dynamics, sampler, rng = OnnxDynamics(budget.horizon), budget.build(0), np.random.default_rng(1)
    path = rng.standard_normal((budget.horizon, LATENT)).astype(np.float32)
    start = np.repeat(rng.standard_normal((1, LATENT)).astype(np.float32), budget.samples, axis=0)
    hold = np.zeros((budget.horizon, ACTION), np.float32)
    last = [hold]

    def cost(actions: NDArray[np.float32]) -> NDArray[np.float64]:
        error = dynamics.rollout(start[: len(actions)], actions)
        error -= path
        flat = error.reshape(len(error), -1)
        return np.vecdot(flat, flat).astype(np.float64)

    def plan() -> None:
        shifted = np.concatenate([last[0][1:], last[0][-1:]])
        last[0] = sampler.solve([shifted, hold], cost).actions

    return plan


def run(
    budgets: Sequence[SearchBudget],
    seeds: int,
    repeats: int,
    workers: int,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Figure, ...]:
    """Figures of every contestant.

    Of ours, the fastest budget whose mean return is at least the baseline's stands in the speed-ups; they
    are null when there is none.
    """
    import torch

    if any(budget.sampler == "gradient" for budget in budgets):
        raise ValueError("the task of the returns has no gradient: time the sampler with --runtime torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    textbook = _returns(_textbook, seeds, workers, warm=False)
    progress(0.2)
    tdmpc2 = _returns(_tdmpc2, seeds, workers, warm=True)
    progress(0.3)
    worth = {budget: _returns(budget.build, seeds, workers, warm=True) for budget in budgets}
    progress(0.5)
    networks, plain = tdmpc2_networks(), torch_dynamics().eval()
    slow = {
        "textbook": times_of(partial(textbook_plan, plain, batched=False), 3),
        "textbook_batched": times_of(partial(textbook_plan, plain, batched=True), max(5, repeats // 10)),
        "tdmpc2": times_of(partial(tdmpc2_plan, networks), 5),
    }
    progress(0.8)
    figures = [figure for name, taken in slow.items() for figure in percentiles(f"plan.{name}.", taken)]
    figures += _lerobot()
    figures += [
        mean_interval("plan.return_textbook", textbook),
        mean_interval("plan.return_tdmpc2", tdmpc2),
    ]
    peak = gemm_peak()
    figures.append(Figure("gemm.peak_gflops", peak / 1e9, "GFLOP/s"))
    taken = {budget: times_of(our_plan(budget), repeats) for budget in budgets}
    floors = {budget: budget.floor_flop / max(peak, gemm_peak()) * 1e3 for budget in budgets}
    for budget in budgets:
        figures += percentiles(f"plan.{budget.name}.", taken[budget])
        ratio = float(np.median(taken[budget])) / floors[budget]
        figures.append(Figure(f"plan.{budget.name}.ratio_to_floor", ratio))
        figures.append(mean_interval(f"plan.{budget.name}.return", worth[budget]))
    progress(1.0)
    baselines = {"textbook": (slow["textbook"], textbook), "tdmpc2": (slow["tdmpc2"], tdmpc2)}
    figures += headline(budgets, taken, floors, worth, baselines)
    return tuple(figures)


def headline(
    budgets: Sequence[SearchBudget],
    taken: Mapping[SearchBudget, NDArray[np.float64]],
    floors: Mapping[SearchBudget, float],
    worth: Mapping[SearchBudget, Sequence[float]],
    baselines: Mapping[str, tuple[NDArray[np.float64], Sequence[float]]],
) -> list[Figure]:
    """The speed-ups, of the fastest of ours that is worth as much; and all figures of that one.

    taken: ms of each plan. floors: ms. worth: returns. baselines: name -> ms and returns.
    """
    figures = []
    for name, (slow, value) in baselines.items():
        good = [budget for budget in budgets if np.mean(worth[budget]) >= np.mean(value)]
        best = min(good, key=lambda budget: float(np.median(taken[budget])), default=None)
        speedup = float("nan") if best is None else float(np.median(slow) / np.median(taken[best]))
        figures.append(Figure(f"plan.speedup_{name}", speedup, "", len(slow)))
        if best is not None:
            figures.append(Figure(f"plan.chosen_{name}", best.name))
        if best is not None and name == "textbook":
            figures += [
                mean_interval("plan.return", worth[best]),
                *percentiles("plan.", taken[best]),
                Figure("plan.ratio_to_floor", float(np.median(taken[best])) / floors[best]),
            ]
    return figures


def _lerobot() -> list[Figure]:
    try:
        plan = lerobot_tdmpc()
    except Exception as error:  # whatever a third party's planner raises where it does not run
        return [Figure("plan.lerobot_tdmpc", f"does not run here: {error}"[:200])]
    return list(percentiles("plan.lerobot_tdmpc.", times_of(plan, 3)))


def _textbook(seed: int) -> Sampler:
    return SearchBudget("cem", **TEXTBOOK).build(seed)


def _tdmpc2(seed: int) -> Sampler:
    config = SamplerConfig((1.0,) * ACTION, **TDMPC2, lower=(-1.0,) * ACTION, upper=(1.0,) * ACTION)
    return Tdmpc2Sampler(config, np.random.default_rng(seed))


def _returns(make: Any, seeds: int, workers: int, *, warm: bool) -> list[float]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return list(pool.map(partial(closed_loop_return, make, warm=warm), range(seeds)))


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

"""The planners' benchmark: its task, its networks, and what it calls ours."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.evaluation.plan_bench.baselines import Tdmpc2Sampler
from wm_vla_ros.evaluation.plan_bench.bench import Budget, headline, parse_budget, times_of
from wm_vla_ros.evaluation.plan_bench.networks import LATENT, OnnxDynamics
from wm_vla_ros.evaluation.plan_bench.task import LINKS, TICKS, Follower, closed_loop_return
from wm_vla_ros.planning.samplers import SamplerConfig

HOLD = np.zeros((10, LINKS), np.float32)


def sampler(seed: int) -> Tdmpc2Sampler:
    config = SamplerConfig((1.0,) * LINKS, 3, 256, 6, (-1.0,) * LINKS, (1.0,) * LINKS)
    return Tdmpc2Sampler(config, np.random.default_rng(seed))


def test_what_a_plan_is_said_to_cost_is_what_executing_it_costs() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (10, LINKS)).astype(np.float32)
    arm = Follower(3)
    foretold = arm.cost(np.stack([HOLD, actions]))[1]
    assert -np.mean([arm.apply(action) for action in actions]) == pytest.approx(foretold, rel=1e-6)


def test_planning_is_worth_more_than_standing_still() -> None:
    arm = Follower(0)
    standing = sum(arm.apply(HOLD[0]) for _ in range(TICKS))
    assert closed_loop_return(sampler, 0, warm=True) > 0.4 * standing
    colored = parse_budget("mppi_colored:16x2x6")
    assert closed_loop_return(colored.build, 0, warm=True) > 0.4 * standing


def test_the_unrolled_graph_is_the_step_repeated() -> None:
    rng = np.random.default_rng(2)
    start = rng.standard_normal((5, LATENT)).astype(np.float32)
    actions = rng.uniform(-1, 1, (5, 4, LINKS)).astype(np.float32)
    step, whole = OnnxDynamics(1), OnnxDynamics(4).rollout(start, actions)
    latent = start
    for tick in range(4):
        latent = step.rollout(latent, actions[:, tick : tick + 1])[:, 0]
        np.testing.assert_allclose(whole[:, tick], latent, atol=1e-5)
    assert np.abs(whole[:, 0] - whole[:, 3]).max() > 0.1


def test_a_budget_is_read_as_it_is_written() -> None:
    assert parse_budget("icem:24x2x6") == Budget("icem", 24, 2, 6)
    assert parse_budget("icem:24x2x6").name == "icem.24x2x6"


@pytest.mark.parametrize(
    "text, said",
    [
        ("icem", "SAMPLER one of mppi_spline"),
        ("annealing:24x2x6", "SAMPLER one of mppi_spline"),
        ("icem:24x2", "SAMPLESxITERATIONSxHORIZON"),
        ("icem:24x-2x6", "SAMPLESxITERATIONSxHORIZON"),
        ("icem:4x2x6", "8 samples"),
        ("icem:24x2x3", "4 ticks"),
    ],
)
def test_a_budget_that_is_none_says_what_one_is(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_budget(text)


def test_the_first_calls_are_not_counted() -> None:
    calls = []
    assert len(times_of(lambda: calls.append(1), 40)) == 40
    assert len(calls) == 42


def test_ours_is_the_fastest_that_is_worth_as_much() -> None:
    """A cheaper plan that is worth less does not stand in the speed-up; without any there is none."""
    poor, good, slow = Budget("cem", 8, 1, 4), Budget("cem", 16, 1, 4), Budget("cem", 32, 1, 4)
    budgets = [poor, good, slow]
    taken = {poor: np.full(9, 1.0), good: np.full(9, 2.0), slow: np.full(9, 4.0)}
    worth = {poor: [-9.0, -8.0], good: [-5.0, -4.0], slow: [-3.0, -4.0]}
    baselines = {"textbook": (np.full(3, 800.0), [-5.0, -5.0]), "tdmpc2": (np.full(3, 400.0), [-1.0, -1.0])}
    floors = {budget: 0.5 * float(times[0]) for budget, times in taken.items()}
    figures = {figure.name: figure.value for figure in headline(budgets, taken, floors, worth, baselines)}
    assert figures["plan.chosen_textbook"] == good.name
    assert figures["plan.speedup_textbook"] == 400.0
    assert figures["plan.ratio_to_floor"] == 2.0
    assert np.isnan(figures["plan.speedup_tdmpc2"])
    assert "plan.chosen_tdmpc2" not in figures

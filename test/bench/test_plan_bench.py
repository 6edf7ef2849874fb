"""The planners' benchmark: its task, its networks, and what it calls ours."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from wm_vla_ros import cli
from wm_vla_ros.bench.plan.baselines import Tdmpc2Sampler
from wm_vla_ros.bench.plan.bench import SearchBudget, headline, parse_budget, run, times_of
from wm_vla_ros.bench.plan.random_networks import LATENT, OnnxDynamics
from wm_vla_ros.bench.plan.runtime import config_of, run_runtime
from wm_vla_ros.bench.plan.seven_links import LINKS, TICKS, Follower, closed_loop_return
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.samplers import SamplerConfig
from wm_vla_ros.world_models import ModelRefused

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
    assert parse_budget("icem:24x2x6") == SearchBudget("icem", 24, 2, 6)
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


def test_a_sampler_that_descends_is_refused_where_nothing_can_be_descended() -> None:
    with pytest.raises(ValueError, match="no gradient: time the sampler with --runtime torch"):
        run([parse_budget("gradient:16x8x10")], 2, 20, 1)


def test_the_first_calls_are_not_counted() -> None:
    calls = []
    assert len(times_of(lambda: calls.append(1), 40)) == 40
    assert len(calls) == 42


def test_ours_is_the_fastest_that_is_worth_as_much() -> None:
    """A cheaper plan that is worth less does not stand in the speed-up; without any there is none."""
    poor, good, slow = (
        SearchBudget("cem", 8, 1, 4),
        SearchBudget("cem", 16, 1, 4),
        SearchBudget("cem", 32, 1, 4),
    )
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


class TestRuntime:
    def test_ticks_are_timed_at_every_budget_and_the_largest_stands_for_all(self) -> None:
        budgets = [SearchBudget("mppi_spline", 64, 4, 10), SearchBudget("icem", 16, 1, 10)]
        shares: list[float] = []
        figures = run_runtime("onnx", budgets, 20, "so101_latent_dynamics", "so101", shares.append)
        by_name = {figure.name: figure for figure in figures}
        assert by_name["plan.budget"].value == "mppi_spline.64x4x10"
        assert by_name["plan.runtime"].value == by_name["plan.icem.16x1x10.runtime"].value == "onnx"
        assert by_name["plan.p50_ms"].value == by_name["plan.mppi_spline.64x4x10.p50_ms"].value
        assert by_name["plan.p50_ms"].value > 4.0 * by_name["plan.icem.16x1x10.p50_ms"].value
        assert by_name["plan.per_second"].n == 20
        assert 0.3 < by_name["plan.per_second"].value * by_name["plan.p50_ms"].value / 1e3 < 1.5
        assert shares == sorted(shares)
        assert shares[-1] == 1.0

    def test_one_budget_is_listed_once(self) -> None:
        figures = run_runtime("onnx", [SearchBudget("cem", 8, 1, 10)], 20, "so101_latent_dynamics", "so101")
        names = [figure.name for figure in figures]
        assert names == [
            *("plan.budget", "plan.runtime", "plan.p50_ms", "plan.p99_ms"),
            *("tick.p50_ms", "tick.p99_ms", "plan.per_second"),
        ]
        value = {figure.name: figure.value for figure in figures}
        assert value["tick.p50_ms"] > value["plan.p50_ms"]

    def test_it_is_the_planners_own_configuration(self) -> None:
        config = config_of(SearchBudget("icem", 512, 6, 10))
        assert (config.method, config.sampler.samples, config.sampler.iterations) == ("icem", 512, 6)
        assert config.sampler.sigma == MpcConfig().sampler.sigma

    def test_without_a_gpu_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wm_vla_ros.world_models.runtimes._DEVICE_NODES", ())
        done = CliRunner().invoke(cli.app, ["bench", "plan", "--runtime", "cuda-graph"])
        assert isinstance(done.exception, ModelRefused)
        assert "needs an NVIDIA GPU" in str(done.exception)

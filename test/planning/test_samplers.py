"""Every sampler on a problem whose optimum is known, and what it does with bounds, NaN and little time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.planning.samplers import SAMPLERS, NoFiniteCost, Sampler, SamplerConfig, make_sampler
from wm_vla_ros.planning.samplers.noise import colored_basis, fewer_numbers, spline_basis

H, A = 10, 3
CONFIG = SamplerConfig((0.3,) * A, H, samples=64, iterations=4, lower=(-1.0,) * A, upper=(1.0,) * A)
MPPI = ("mppi_spline", "mppi_colored")
# The one that descends needs a gradient: test_gradient.py.
every_sampler = pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gradient"])
HOLD = np.zeros((H, A), np.float32)


class MovingTarget:
    """A point that moves by its action towards a target that moves too; effort is penalised.

    cost = sum over ticks of |x_t - target_t|^2 + effort |a_t|^2, with x_t = a_1 + ... + a_t: quadratic in the
    actions, so the optimum is one linear solve (and lies within bounds for these targets).
    """

    effort = 0.05

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        start, velocity = rng.uniform(-0.6, 0.6, A), rng.uniform(-0.25, 0.25, A)
        self.target = start + velocity * np.arange(1, H + 1)[:, None]
        self.calls = 0

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        self.calls += 1
        error = np.cumsum(actions, axis=1) - self.target
        return np.sum(error**2, axis=(1, 2)) + self.effort * np.sum(actions.astype(float) ** 2, axis=(1, 2))

    def optimum(self) -> np.ndarray:
        summing = np.tril(np.ones((H, H)))
        return np.linalg.solve(summing.T @ summing + self.effort * np.eye(H), summing.T @ self.target)


def planner(name: str, seed: int = 0, **changes) -> Sampler:
    return make_sampler(name, replace(CONFIG, **changes), np.random.default_rng(seed))


@every_sampler
@pytest.mark.parametrize("task", range(6))
def test_a_plan_is_better_than_every_candidate(name: str, task: int) -> None:
    problem = MovingTarget(task)
    candidates = [HOLD, np.full((H, A), 0.1, np.float32)]
    solution = planner(name, task).solve(candidates, problem)
    assert problem(solution.actions[None])[0] < 0.8 * problem(np.stack(candidates)).min()


@every_sampler
@pytest.mark.parametrize("task", range(3))
def test_warm_started_over_ticks_it_comes_close_to_the_optimum(name: str, task: int) -> None:
    problem, sampler = MovingTarget(task), planner(name, task)
    best = problem(problem.optimum()[None])[0]
    actions = HOLD
    for _ in range(30):
        actions = sampler.solve([actions, HOLD], problem, shift=0).actions
    assert np.abs(problem.optimum()).max() <= 1.0
    assert problem(actions[None])[0] - best < 0.1 * (problem(HOLD[None])[0] - best)


@every_sampler
def test_a_good_candidate_is_not_lost(name: str) -> None:
    """The chunk that the policy proposes may already be the best plan there is."""
    problem = MovingTarget(1)
    optimum = problem.optimum().astype(np.float32)
    solution = planner(name).solve([optimum, HOLD], problem)
    best, hold = problem(np.stack([optimum, HOLD]))
    assert solution.cost <= best + 1e-9
    assert problem(solution.actions[None])[0] - best < 0.1 * (hold - best)


@every_sampler
def test_candidates_are_judged_as_they_are(name: str) -> None:
    seen = []
    candidates = [np.full((H, A), 0.3, np.float32), np.full((H, A), -0.2, np.float32)]

    def cost(actions: np.ndarray) -> np.ndarray:
        seen.append(actions)
        return np.square(actions).sum(axis=(1, 2))

    planner(name).solve(candidates, cost)
    assert len(seen) == CONFIG.iterations
    assert len(seen[0]) == CONFIG.samples
    assert all(len(population) <= CONFIG.samples for population in seen)
    np.testing.assert_array_equal(seen[0][:2], np.stack(candidates))


@every_sampler
def test_it_is_reproducible_from_its_generator(name: str) -> None:
    problem = MovingTarget(3)
    first, again, other = (planner(name, seed).solve([HOLD], problem).actions for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@every_sampler
@settings(max_examples=15)
@given(seed=st.integers(0, 99), pull=st.tuples(*[st.floats(-50.0, 50.0)] * A))
def test_bounds_hold_however_strong_the_pull(name: str, seed: int, pull) -> None:
    lower, upper = (-1.0, -0.5, 0.0), (1.0, 0.5, 1.0)

    def cost(actions: np.ndarray) -> np.ndarray:
        assert np.all(actions >= np.float32(lower))
        assert np.all(actions <= np.float32(upper))
        return -np.sum(actions * np.array(pull), axis=(1, 2))

    start = np.tile(np.float32([0.0, 0.0, 0.5]), (H, 1))
    actions = planner(name, seed, lower=lower, upper=upper).solve([start], cost).actions
    assert np.all(actions >= np.float32(lower) - 1e-6)
    assert np.all(actions <= np.float32(upper) + 1e-6)


@every_sampler
def test_dimensions_without_noise_stay_as_the_candidates_have_them(name: str) -> None:
    start = np.tile(np.float32([0.1, 0.2, 0.3]), (H, 1))
    actions = planner(name, sigma=(0.3, 0.0, 0.3)).solve([start], MovingTarget(0)).actions
    np.testing.assert_allclose(actions[:, 1], 0.2, atol=1e-6)
    assert np.abs(actions[:, 0] - 0.1).max() > 0.01


@pytest.mark.parametrize("name", [*MPPI, "icem"])
def test_samples_are_smooth(name: str) -> None:
    """A sample's change per tick is well below white noise's sqrt(2) of its spread."""
    seen = []

    def cost(actions: np.ndarray) -> np.ndarray:
        seen.append(actions)
        return np.zeros(len(actions))

    planner(name, samples=256, iterations=1, sigma=(0.1,) * A).solve([HOLD], cost)
    samples = seen[0][1:]
    assert np.diff(samples, axis=1).std() < 0.6 * samples.std()
    assert samples.std() == pytest.approx(0.1, rel=0.35)


@pytest.mark.parametrize("name", MPPI)
@given(scale=st.floats(1e-2, 1e4), shift=st.floats(-1e3, 1e3))
@settings(max_examples=25)
def test_only_differences_of_cost_count_and_not_their_unit(name: str, scale: float, shift: float) -> None:
    """The temperature is relative to the costs' own spread: no retuning when a weight changes."""
    problem = MovingTarget(2)
    plain = planner(name, 4).solve([HOLD], problem).actions
    scaled = planner(name, 4).solve([HOLD], lambda actions: scale * problem(actions) + shift).actions
    np.testing.assert_allclose(scaled, plain, atol=4e-3)


def test_icem_remembers_its_elites_and_moves_them_on_by_time() -> None:
    """After a tick that was missed they are two ticks old."""
    seen: list[np.ndarray] = []

    def cost(actions: np.ndarray) -> np.ndarray:
        seen.append(actions)
        return np.square(actions - 0.4).sum(axis=(1, 2))

    sampler = planner("icem", iterations=1)
    best = sampler.solve([HOLD], cost).actions
    sampler.solve([HOLD], cost, shift=2)
    moved = np.concatenate([best[2:], best[-1:], best[-1:]])
    assert np.min(np.abs(seen[1] - moved).max(axis=(1, 2))) < 1e-6


def test_icem_asks_for_fewer_rollouts_each_time() -> None:
    sizes: list[int] = []

    def cost(actions: np.ndarray) -> np.ndarray:
        sizes.append(len(actions))
        return np.square(actions).sum(axis=(1, 2))

    planner("icem").solve([HOLD], cost)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.6 * sizes[0]


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.0])
def test_coloured_noise_has_its_spectrum(beta: float) -> None:
    """Its power falls with the frequency's power beta, as a straight line in log-log."""
    horizon = 64
    basis = colored_basis(horizon, beta)
    few = fewer_numbers(basis)
    assert few.shape == (horizon, horizon)
    assert few @ few.T == pytest.approx(basis @ basis.T, abs=1e-4)
    noise = basis @ np.random.default_rng(0).standard_normal((basis.shape[1], 4000))
    assert noise.var() == pytest.approx(1.0, rel=0.15)
    # Welch's window, so that the low frequencies do not leak over the others.
    window = np.hanning(horizon)[:, None]
    power = np.mean(np.abs(np.fft.rfft((noise - noise.mean(axis=0)) * window, axis=0)) ** 2, axis=1)
    rows = np.arange(4, 24)
    slope = np.polyfit(np.log(rows), np.log(power[rows]), 1)[0]
    assert -slope == pytest.approx(beta, abs=0.35)


def test_a_spline_goes_through_its_knots() -> None:
    basis = spline_basis(10, 4)
    np.testing.assert_allclose(basis[[0, 3, 6, 9]], np.eye(4), atol=1e-6)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0, atol=1e-6)


@every_sampler
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_leave_nothing_to_choose(name: str, bad: float) -> None:
    """Fault case 17: never turned into a number, never a plan."""
    with pytest.raises(NoFiniteCost, match="all 64 candidates"):
        planner(name).solve([HOLD], lambda actions: np.full(len(actions), bad))


@every_sampler
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_without_a_finite_cost_are_left_out(name: str, bad: float) -> None:
    """A NaN in one sample would otherwise be in the weighted mean, and so in the plan."""
    problem = MovingTarget(5)

    def cost(actions: np.ndarray) -> np.ndarray:
        costs = problem(actions)
        costs[::3] = bad
        return costs

    solution = planner(name).solve([np.full((H, A), 0.05, np.float32), HOLD], cost)
    assert np.all(np.isfinite(solution.actions))
    assert np.isfinite(solution.cost)
    assert problem(solution.actions[None])[0] < problem(HOLD[None])[0]


@every_sampler
def test_one_finite_sample_is_enough(name: str) -> None:
    def cost(actions: np.ndarray) -> np.ndarray:
        costs = np.full(len(actions), np.nan)
        costs[0] = 4.0
        return costs

    candidate = np.full((H, A), 0.2, np.float32)
    solution = planner(name, iterations=1).solve([candidate, HOLD], cost)
    np.testing.assert_allclose(solution.actions, candidate, atol=1e-6)
    assert solution.cost == 4.0


@every_sampler
def test_when_a_later_population_has_no_finite_cost_the_earlier_plan_stands(name: str) -> None:
    calls = []

    def cost(actions: np.ndarray) -> np.ndarray:
        calls.append(len(actions))
        return MovingTarget(1)(actions) if len(calls) == 1 else np.full(len(actions), np.nan)

    solution = planner(name).solve([HOLD], cost)
    assert solution.iterations == 1
    assert np.all(np.isfinite(solution.actions))


@every_sampler
@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_out_of_time_it_returns_what_it_has(name: str, allowed: int) -> None:
    problem = MovingTarget(1)
    solution = planner(name).solve([HOLD], problem, lambda: problem.calls >= allowed)
    assert (problem.calls, solution.iterations) == (allowed, allowed)
    assert problem(solution.actions[None])[0] < problem(HOLD[None])[0]


@every_sampler
@pytest.mark.parametrize(
    "candidates", [[], [np.zeros((H + 1, A))], [np.zeros((H, A + 1))], [HOLD] * CONFIG.samples]
)
def test_candidates_of_another_shape_or_too_many_are_refused(name: str, candidates) -> None:
    with pytest.raises(ValueError, match=r"candidates|at least one"):
        planner(name).solve(candidates, MovingTarget(0))


@every_sampler
@pytest.mark.parametrize("wrong", [{"upper": (1.0,)}, {"sigma": (0.1, 0.1)}])
def test_a_configuration_has_one_entry_per_dimension(name: str, wrong) -> None:
    with pytest.raises(ValueError, match="one entry per action dimension"):
        planner(name, **wrong)


def test_an_unknown_sampler_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'annealing'; valid: mppi_spline, mppi_colored, icem, cem"):
        make_sampler("annealing", CONFIG, np.random.default_rng(0))


def test_the_population_of_icem_shrinks_by_whole_blocks_of_rows() -> None:
    sizes = []

    def cost(actions: np.ndarray) -> np.ndarray:
        sizes.append(len(actions))
        return np.square(actions).sum(axis=(1, 2))

    config = SamplerConfig(sigma=(0.3,) * 7, horizon=6, samples=40, iterations=4)
    make_sampler("icem", config, np.random.default_rng(0)).solve([np.zeros((6, 7), np.float32)], cost)
    # 40, then 32, 25 and 20 by the published decay.
    assert sizes == [40, 30, 24, 18]

"""MPPI on a problem whose optimum is known, and what it does with bounds, NaN and little time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.planning.samplers.mppi import Mppi, MppiConfig, NoFiniteCost

H, A = 10, 3
CONFIG = MppiConfig(
    sigma=(0.3,) * A,
    horizon=H,
    samples=64,
    iterations=2,
    knots=4,
    temperature=0.3,
    shrink=0.5,
    lower=(-1.0,) * A,
    upper=(1.0,) * A,
)
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


def planner(seed: int = 0, **changes) -> Mppi:
    return Mppi(replace(CONFIG, **changes), np.random.default_rng(seed))


@pytest.mark.parametrize("task", range(12))
def test_a_plan_is_better_than_every_candidate(task: int) -> None:
    problem = MovingTarget(task)
    candidates = [HOLD, np.full((H, A), 0.1, np.float32)]
    solution = planner(task).solve(candidates, problem)
    assert problem(solution.actions[None])[0] < 0.8 * problem(np.stack(candidates)).min()


@pytest.mark.parametrize("task", range(6))
def test_warm_started_over_ticks_it_comes_close_to_the_optimum(task: int) -> None:
    problem, mppi = MovingTarget(task), planner(task)
    best = problem(problem.optimum()[None])[0]
    actions = HOLD
    for _ in range(30):
        actions = mppi.solve([actions, HOLD], problem).actions
    assert np.abs(problem.optimum()).max() <= 1.0
    assert problem(actions[None])[0] - best < 0.08 * (problem(HOLD[None])[0] - best)


def test_a_good_candidate_is_not_lost() -> None:
    """The chunk that the policy proposes may already be the best plan there is."""
    problem = MovingTarget(1)
    optimum = problem.optimum().astype(np.float32)
    solution = planner().solve([HOLD, optimum], problem)
    best, hold = problem(np.stack([optimum, HOLD]))
    assert solution.cost <= best + 1e-9
    assert problem(solution.actions[None])[0] - best < 0.02 * (hold - best)


def test_candidates_are_judged_as_they_are() -> None:
    seen = []
    candidates = [np.full((H, A), 0.3, np.float32), np.full((H, A), -0.2, np.float32)]

    def cost(actions: np.ndarray) -> np.ndarray:
        seen.append(actions)
        return np.square(actions).sum(axis=(1, 2))

    planner().solve(candidates, cost)
    assert [len(population) for population in seen] == [CONFIG.samples] * CONFIG.iterations
    np.testing.assert_array_equal(seen[0][:2], np.stack(candidates))


def test_it_is_reproducible_from_its_generator() -> None:
    problem = MovingTarget(3)
    first, again, other = (planner(seed).solve([HOLD], problem).actions for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), pull=st.tuples(*[st.floats(-50.0, 50.0)] * A))
def test_bounds_hold_however_strong_the_pull(seed: int, pull) -> None:
    lower, upper = (-1.0, -0.5, 0.0), (1.0, 0.5, 1.0)

    def cost(actions: np.ndarray) -> np.ndarray:
        assert np.all(actions >= np.float32(lower))
        assert np.all(actions <= np.float32(upper))
        return -np.sum(actions * np.array(pull), axis=(1, 2))

    start = np.tile(np.float32([0.0, 0.0, 0.5]), (H, 1))
    actions = planner(seed, lower=lower, upper=upper).solve([start], cost).actions
    assert np.all(actions >= np.float32(lower) - 1e-6)
    assert np.all(actions <= np.float32(upper) + 1e-6)


def test_dimensions_without_noise_stay_as_the_candidates_have_them() -> None:
    start = np.tile(np.float32([0.1, 0.2, 0.3]), (H, 1))
    actions = planner(sigma=(0.3, 0.0, 0.3)).solve([start], MovingTarget(0)).actions
    np.testing.assert_allclose(actions[:, 1], 0.2, atol=1e-6)
    assert np.abs(actions[:, 0] - 0.1).max() > 0.01


def test_samples_are_smooth() -> None:
    """Spline knots: a sample's change per tick is well below white noise's sqrt(2) of its spread."""
    seen = []

    def cost(actions: np.ndarray) -> np.ndarray:
        seen.append(actions)
        return np.zeros(len(actions))

    planner(samples=256, iterations=1, sigma=(0.1,) * A).solve([HOLD], cost)
    spread = seen[0][1:].std()
    assert np.diff(seen[0][1:], axis=1).std() < 0.6 * spread
    assert spread == pytest.approx(0.1, rel=0.35)


@given(scale=st.floats(1e-2, 1e4), shift=st.floats(-1e3, 1e3))
@settings(max_examples=25)
def test_only_differences_of_cost_count_and_not_their_unit(scale: float, shift: float) -> None:
    """The temperature is relative to the costs' own spread: no retuning when a weight changes."""
    problem = MovingTarget(2)
    plain = planner(4).solve([HOLD], problem).actions
    scaled = planner(4).solve([HOLD], lambda actions: scale * problem(actions) + shift).actions
    np.testing.assert_allclose(scaled, plain, atol=2e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_leave_nothing_to_choose(bad: float) -> None:
    """Fault case 17: never turned into a number, never a plan."""
    with pytest.raises(NoFiniteCost, match="all 64 candidates"):
        planner().solve([HOLD], lambda actions: np.full(len(actions), bad))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_without_a_finite_cost_are_left_out(bad: float) -> None:
    """A NaN in one sample would otherwise be in the weighted mean, and so in the plan."""
    problem = MovingTarget(5)

    def cost(actions: np.ndarray) -> np.ndarray:
        costs = problem(actions)
        costs[::3] = bad
        return costs

    solution = planner().solve([np.full((H, A), 0.05, np.float32), HOLD], cost)
    assert np.all(np.isfinite(solution.actions))
    assert np.isfinite(solution.cost)
    assert problem(solution.actions[None])[0] < problem(HOLD[None])[0]


def test_one_finite_sample_is_enough() -> None:
    def cost(actions: np.ndarray) -> np.ndarray:
        costs = np.full(len(actions), np.nan)
        costs[1] = 4.0
        return costs

    candidate = np.full((H, A), 0.2, np.float32)
    solution = planner(iterations=1).solve([HOLD, candidate], cost)
    np.testing.assert_allclose(solution.actions, candidate, atol=1e-6)
    assert solution.cost == 4.0


def test_when_a_later_population_has_no_finite_cost_the_earlier_plan_stands() -> None:
    calls = []

    def cost(actions: np.ndarray) -> np.ndarray:
        calls.append(len(actions))
        return MovingTarget(1)(actions) if len(calls) == 1 else np.full(len(actions), np.nan)

    solution = planner(iterations=3).solve([HOLD], cost)
    assert solution.iterations == 1
    assert np.all(np.isfinite(solution.actions))


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_out_of_time_it_returns_what_it_has(allowed: int) -> None:
    problem = MovingTarget(1)
    solution = planner(iterations=4).solve([HOLD], problem, lambda: problem.calls >= allowed)
    assert (problem.calls, solution.iterations) == (allowed, allowed)
    assert problem(solution.actions[None])[0] < problem(HOLD[None])[0]


@pytest.mark.parametrize(
    "candidates", [[], [np.zeros((H + 1, A))], [np.zeros((H, A + 1))], [HOLD] * CONFIG.samples]
)
def test_candidates_of_another_shape_or_too_many_are_refused(candidates) -> None:
    with pytest.raises(ValueError, match=r"candidates|at least one"):
        planner().solve(candidates, MovingTarget(0))


def test_a_configuration_has_one_entry_per_dimension() -> None:
    with pytest.raises(ValueError, match="one entry per action dimension"):
        Mppi(replace(CONFIG, upper=(1.0,)), np.random.default_rng(0))

"""The sampler that descends: on a problem whose optimum is known, with bounds, NaN and little time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.planning.samplers import NoFiniteCost, Sampler, SamplerConfig, make_sampler

H, A = 10, 3
CONFIG = SamplerConfig((0.3,) * A, H, samples=32, iterations=10, lower=(-1.0,) * A, upper=(1.0,) * A)
HOLD = np.zeros((H, A), np.float32)


class Valley:
    """|x_t - target|^2 over the ticks, x_t = a_1 + ... + a_t, one axis steeper than another; and effort."""

    steep = np.array([1.0, 4.0, 2.0])

    def __init__(self, seed: int) -> None:
        self.target = np.random.default_rng(seed).uniform(-0.8, 0.8, A)
        self.calls = 0

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        self.calls += 1
        error = np.cumsum(actions, axis=1) - self.target
        return np.sum(self.steep * error**2, axis=(1, 2)) + 0.1 * np.sum(actions**2, axis=(1, 2))

    def gradient(self, actions: np.ndarray) -> np.ndarray:
        error = 2.0 * self.steep * (np.cumsum(actions, axis=1) - self.target)
        return (np.cumsum(error[:, ::-1], axis=1)[:, ::-1] + 0.2 * actions).astype(np.float32)

    def optimum(self) -> np.ndarray:
        """By one linear solve per axis; within the bounds for these targets."""
        summing, wanted = np.tril(np.ones((H, H))), np.tile(self.target, (H, 1))
        columns = [
            np.linalg.solve(
                steep * summing.T @ summing + 0.1 * np.eye(H), steep * summing.T @ wanted[:, axis]
            )
            for axis, steep in enumerate(self.steep)
        ]
        return np.stack(columns, axis=1)


def planner(seed: int = 0, name: str = "gradient", **changes) -> Sampler:
    return make_sampler(name, replace(CONFIG, **changes), np.random.default_rng(seed))


@pytest.mark.parametrize("task", range(6))
def test_it_beats_the_best_candidate_and_sampling_at_the_same_number_of_rollouts(task: int) -> None:
    problem = Valley(task)
    candidates = [HOLD, np.full((H, A), 0.05, np.float32)]
    found = planner(task).solve(candidates, problem, gradient=problem.gradient)
    sampled = planner(task, "mppi_spline").solve(candidates, problem)
    assert found.cost < 0.7 * problem(np.stack(candidates)).min()
    assert problem(found.actions[None])[0] < problem(sampled.actions[None])[0]


@pytest.mark.parametrize("task", range(3))
def test_warm_started_over_ticks_it_comes_close_to_the_optimum(task: int) -> None:
    problem, sampler, actions = Valley(task), planner(task), HOLD
    for _ in range(40):
        actions = sampler.solve([actions, HOLD], problem, gradient=problem.gradient).actions
    best, hold, found = problem(np.stack([problem.optimum(), HOLD, actions]))
    assert np.abs(problem.optimum()).max() <= 1.0
    assert found - best < 0.03 * (hold - best)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), values=st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=6))
def test_it_is_never_worse_than_the_best_candidate_even_when_the_slope_lies(seed: int, values) -> None:
    """The cost decides and not the gradient, which may leave a term out."""
    problem = Valley(seed)
    candidates = [np.full((H, A), value, np.float32) for value in values]
    found = planner(seed).solve(candidates, problem, gradient=lambda actions: -problem.gradient(actions))
    assert found.cost <= problem(np.stack(candidates)).min() + 1e-9
    assert found.cost == pytest.approx(problem(found.actions[None])[0], rel=1e-6)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), pull=st.tuples(*[st.floats(-50.0, 50.0)] * A))
def test_bounds_hold_however_strong_the_pull(seed: int, pull) -> None:
    lower, upper = (-1.0, -0.5, 0.0), (1.0, 0.5, 1.0)

    def cost(actions: np.ndarray) -> np.ndarray:
        assert np.all(actions >= np.float32(lower))
        assert np.all(actions <= np.float32(upper))
        return -np.sum(actions * np.array(pull), axis=(1, 2))

    start = np.tile(np.float32([0.0, 0.0, 0.5]), (H, 1))
    sampler = planner(seed, lower=lower, upper=upper)
    slope = -np.float32(pull)
    actions = sampler.solve([start], cost, gradient=lambda at: np.broadcast_to(slope, at.shape)).actions
    assert np.all((actions >= np.float32(lower)) & (actions <= np.float32(upper)))


def test_dimensions_without_noise_stay_as_the_candidates_have_them() -> None:
    problem, start = Valley(0), np.tile(np.float32([0.1, 0.2, 0.3]), (H, 1))
    actions = planner(sigma=(0.3, 0.0, 0.3)).solve([start], problem, gradient=problem.gradient).actions
    np.testing.assert_array_equal(actions[:, 1], start[:, 1])
    assert np.abs(actions[:, 0] - 0.1).max() > 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_where_there_is_no_slope_the_rest_goes_on(bad: float) -> None:
    problem = Valley(2)

    def some(actions: np.ndarray) -> np.ndarray:
        slope = problem.gradient(actions)
        slope[::2, 3, 1] = bad
        return slope

    found = planner().solve([HOLD], problem, gradient=some)
    assert np.all(np.isfinite(found.actions))
    assert found.cost < problem(HOLD[None])[0]
    nowhere = planner().solve([HOLD], problem, gradient=lambda actions: np.full_like(actions, bad))
    assert np.all(np.isfinite(nowhere.actions))
    assert nowhere.cost <= problem(HOLD[None])[0]


def test_samples_that_lose_their_cost_on_the_way_do_not_mix_up_the_others() -> None:
    """Moments belong to a sequence: with one gone, its neighbour must not inherit them."""
    problem, calls = Valley(3), []

    def cost(actions: np.ndarray) -> np.ndarray:
        costs = problem(actions)
        calls.append(len(actions))
        if len(calls) > 1:
            costs[len(calls) % len(costs)] = np.nan
        return costs

    found = planner().solve([HOLD], cost, gradient=problem.gradient)
    assert calls == [32, 8, 7, 6, 5, 4, 3, 2, 1]
    assert found.cost < problem(HOLD[None])[0]
    assert np.all(np.isfinite(found.actions))


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_out_of_time_it_returns_what_it_has(allowed: int) -> None:
    problem = Valley(1)
    found = planner().solve([HOLD], problem, lambda: problem.calls >= allowed, gradient=problem.gradient)
    assert (problem.calls, found.iterations) == (allowed, allowed)


def test_it_is_reproducible_from_its_generator() -> None:
    problem = Valley(3)
    plans = [planner(seed).solve([HOLD], problem, gradient=problem.gradient).actions for seed in (7, 7, 8)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


def test_no_finite_cost_and_no_gradient_are_refused() -> None:
    problem = Valley(0)
    with pytest.raises(NoFiniteCost, match="all 32 candidates"):
        planner().solve([HOLD], lambda at: np.full(len(at), np.nan), gradient=problem.gradient)
    with pytest.raises(ValueError, match="sampler 'gradient' needs the objective's gradient"):
        planner().solve([HOLD], problem)

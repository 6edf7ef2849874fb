"""Each term of the objective alone, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.planning.objective import LatentTracking, Rollouts, Smoothness, TipTracking, Workspace

N, H, A, D, G = 4, 5, 7, 6, 6


def rollouts(**changes) -> Rollouts:
    """N futures that stand on their target, 0.1 m up."""
    values = {
        "actions": np.zeros((N, H, A), np.float32),
        "previous": np.zeros(A, np.float32),
        "latents": np.ones((N, H, D), np.float32),
        "grounded": np.full((N, H, G), 0.1, np.float32),
        "target_latents": np.ones((H, D), np.float32),
        "target_grounded": np.full((H, G), 0.1, np.float32),
    }
    return Rollouts(**values | changes)


TERMS = [
    TipTracking("tip", (0, 1, 2), 1.0),
    LatentTracking(1.0),
    Smoothness(1.0),
    Workspace(column=2, weight=1.0, lowest=0.01),
]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_perfect_future_costs_nothing(term) -> None:
    cost = term.cost(rollouts())
    assert cost.dtype == np.float64
    np.testing.assert_array_equal(cost, np.zeros(N))


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
@given(seed=st.integers(0, 99), weight=st.floats(0.1, 10.0))
def test_a_cost_is_per_future_never_negative_and_proportional_to_its_weight(
    term, seed: int, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    futures = rollouts(
        actions=rng.normal(size=(N, H, A)).astype(np.float32),
        latents=rng.normal(size=(N, H, D)).astype(np.float32),
        grounded=rng.normal(size=(N, H, G)).astype(np.float32),
    )
    heavier = type(term)(**{name: getattr(term, name) for name in term.__slots__} | {"weight": weight})
    cost = term.cost(futures)
    assert cost.shape == (N,)
    assert np.all(cost >= 0)
    np.testing.assert_allclose(heavier.cost(futures), weight * cost, rtol=1e-5)
    one = Rollouts(
        futures.actions[2:3],
        futures.previous,
        futures.latents[2:3],
        futures.grounded[2:3],
        futures.target_latents,
        futures.target_grounded,
    )
    np.testing.assert_allclose(term.cost(one), cost[2:3], rtol=1e-5)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_nan_future_costs_nan_and_leaves_the_others_alone(term) -> None:
    """The sampler drops what is not finite: a term that swallowed a NaN would hide a broken rollout."""
    spoiled = {name: np.array(getattr(rollouts(), name)) for name in ("actions", "latents", "grounded")}
    for array in spoiled.values():
        array[1, 2] = np.nan
    cost = term.cost(rollouts(**spoiled))
    assert np.isnan(cost[1])
    np.testing.assert_array_equal(cost[[0, 2, 3]], 0.0)


def test_tip_tracking_is_squared_distance_in_its_scale() -> None:
    grounded = np.full((N, H, G), 0.1, np.float32)
    grounded[1, 0, 0] += 0.005  # one scale, in one of five ticks
    grounded[2, 0, :2] += 0.010  # two scales in two axes
    grounded[3, 0, 4] += 0.5  # a column that does not count
    cost = TipTracking("tip", (0, 1, 2), weight=1.0, scale=0.005).cost(rollouts(grounded=grounded))
    np.testing.assert_allclose(cost, [0.0, 1.0 / H, 8.0 / H, 0.0], rtol=1e-4)


def test_what_is_left_at_the_end_of_the_horizon_weighs_more() -> None:
    grounded = np.full((N, H, G), 0.1, np.float32)
    grounded[0, 1, 0] += 0.005
    grounded[1, -1, 0] += 0.005
    cost = TipTracking("tip", (0, 1, 2), weight=1.0, scale=0.005, terminal=3.0).cost(
        rollouts(grounded=grounded)
    )
    assert cost[1] == pytest.approx(3.0 * cost[0], rel=1e-4)


def test_without_objects_the_objects_cost_nothing() -> None:
    grounded = np.random.default_rng(0).normal(size=(N, H, G))
    np.testing.assert_array_equal(TipTracking("objects", (), 1.0).cost(rollouts(grounded=grounded)), 0.0)


def test_latent_tracking_is_the_mean_squared_distance() -> None:
    latents = np.ones((N, H, D), np.float32)
    latents[1] += 2.0
    latents[2, 0, 0] += 3.0
    cost = LatentTracking(weight=0.5).cost(rollouts(latents=latents))
    np.testing.assert_allclose(cost, [0.0, 0.5 * 4.0, 0.5 * 9.0 / (H * D), 0.0], rtol=1e-5)


def test_latent_tracking_weighs_dimensions_as_the_goal_says() -> None:
    latents = np.ones((N, H, D), np.float32)
    latents[1, :, 0] += 2.0
    latents[2, :, 1] += 2.0
    weight = np.array([3.0, 0.0, 1.0, 1.0, 1.0, 1.0], np.float32)
    cost = LatentTracking(weight=0.5).cost(rollouts(latents=latents, latent_weight=weight))
    np.testing.assert_allclose(cost, [0.0, 0.5 * 3.0 * 4.0 / D, 0.0, 0.0], rtol=1e-5)


def test_smoothness_counts_changes_and_the_step_from_the_action_in_force() -> None:
    actions = np.zeros((N, H, A), np.float32)
    actions[1] = 0.05  # one step of one scale in seven dimensions, then constant
    actions[2, 2, 0] = 0.10  # up and down again
    previous = np.zeros(A, np.float32)
    term = Smoothness(weight=1.0, scale=0.05)
    np.testing.assert_allclose(term.cost(rollouts(actions=actions)), [0.0, 7.0 / H, 8.0 / H, 0.0], rtol=1e-5)
    previous[:] = 0.05
    np.testing.assert_allclose(
        term.cost(rollouts(actions=actions, previous=previous))[:2], [7.0 / H, 0.0], atol=1e-6
    )


def test_the_workspace_ends_above_the_table_and_not_elsewhere() -> None:
    grounded = np.full((N, H, G), 0.1, np.float32)
    grounded[1, :, 2] = 0.010
    grounded[2, :, 2] = 0.007
    grounded[3, 0, 2] = 0.004
    cost = Workspace(column=2, weight=1.0, lowest=0.010, scale=0.003).cost(rollouts(grounded=grounded))
    np.testing.assert_allclose(cost, [0.0, 0.0, 1.0, 4.0 / H], atol=1e-4)

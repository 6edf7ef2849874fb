"""Each term of the objective alone, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from wm_vla_ros.planning.objective import (
    ChunkDeviation,
    Collision,
    Effort,
    JointLimits,
    LatentPoint,
    LatentTracking,
    Objective,
    Rollouts,
    Smoothness,
    TemporalDistance,
    TipTracking,
    Uncertainty,
    Value,
    Weights,
    Workspace,
)
from wm_vla_ros.robots.linearised_arm import Lineariser
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.world_models.heads import Heads

N, H, A, D, G = 4, 5, 7, 6, 6
SPEC = load_robot("so101")
AT_HOME = Lineariser(SPEC).at(SPEC.home)
NAMES = tuple(f"{thing}.{axis}" for thing in ("tip", "red_cube") for axis in "xyz")


def rollouts(**changes) -> Rollouts:
    """N futures that stand on their target, 0.1 m up, the arm at home."""
    values = {
        "actions": np.zeros((N, H, A), np.float32),
        "previous": np.zeros(A, np.float32),
        "latents": np.ones((N, H, D), np.float32),
        "grounded": np.full((N, H, G), 0.1, np.float32),
        "target_latents": np.ones((H, D), np.float32),
        "target_grounded": np.full((H, G), 0.1, np.float32),
        "latent_weight": 1.0,
        "goal_latent": np.ones(D, np.float32),
        "chunk": np.zeros((H, A), np.float32),
        "chunk_trust": 1.0,
        "arm": AT_HOME,
    } | changes
    return Rollouts(**values, joints=values["arm"].joints(values["actions"]))


# A critic by hand: minus the distance to the goal.
CRITIC = SimpleNamespace(value=lambda latents, goal: -np.linalg.norm(latents - goal, axis=-1))


class Model:
    """What the objective asks of a world model."""

    def __init__(self, heads: Heads | None, spread: np.ndarray | None = None) -> None:
        self.latent_dim, self._spread = D, spread
        self.manifest = SimpleNamespace(name="small", latent_dim=D, action_dim=A, horizon=H)
        self.grounding_names, self.heads, self.actor_critic = NAMES, heads, CRITIC

    def spread(self, latents: np.ndarray) -> np.ndarray | None:
        """The same deviation per grounded entry, times how large the latent is."""
        return None if self._spread is None else np.abs(latents).mean(1)[:, None] * self._spread


# A critic by hand: minus the distance to the goal.
CRITIC = SimpleNamespace(value=lambda latents, goal: -np.linalg.norm(latents - goal, axis=-1))


def small_heads(temporal_bias: float = 0.0) -> Heads:
    """Random weights: what the terms make of them is the same as of trained ones."""
    rng = np.random.default_rng(0)
    tensors = {"temporal.embed": np.eye(D, dtype=np.float32)[None]}
    for head, members, inputs in (("temporal", 1, D), ("error", 3, 2 * D + 2 * A)):
        for number, (size, outputs) in enumerate(((inputs, 8), (8, 8), (8, 1))):
            tensors[f"{head}.{number}.weight"] = rng.normal(size=(members, size, outputs)).astype(np.float32)
            tensors[f"{head}.{number}.bias"] = np.zeros((members, 1, outputs), np.float32)
    tensors["temporal.2.bias"] += temporal_bias
    tensors["error.2.weight"] *= 0.1
    return Heads(Model(None).manifest, save(tensors))


HEADS = small_heads(temporal_bias=1.0)
# What a future has of its own.
EACH = ("actions", "latents", "grounded", "joints")

TERMS = [
    TipTracking("tip", (0, 1, 2), 1.0),
    LatentTracking(1.0),
    LatentPoint(1.0),
    ChunkDeviation(1.0),
    Smoothness(1.0),
    Effort(1.0),
    Workspace(column=2, weight=1.0, lowest=0.01),
    JointLimits(1.0, SPEC.lower[:5], SPEC.upper[:5], margin=0.1),
    Collision(1.0, margin=0.006),
]
# These say something of any future, a perfect one too.
LEARNED = [TemporalDistance(1.0, HEADS), Uncertainty(1.0, HEADS), Value(1.0, CRITIC)]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_perfect_future_costs_nothing(term) -> None:
    cost = term.cost(rollouts())
    assert cost.dtype == np.float64
    np.testing.assert_array_equal(cost, np.zeros(N))


@pytest.mark.parametrize("term", [*TERMS, *LEARNED], ids=lambda term: term.name)
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
    alone = {name: getattr(futures, name)[2:3] for name in EACH}
    one = replace(futures, **alone)
    np.testing.assert_allclose(term.cost(one), cost[2:3], rtol=1e-5)


@pytest.mark.parametrize("term", LEARNED, ids=lambda term: term.name)
def test_a_nan_future_costs_nan_whatever_is_learned(term) -> None:
    usual = rollouts()
    latents = np.array(usual.latents)
    latents[1] = np.nan
    cost = term.cost(replace(usual, latents=latents))
    assert np.isnan(cost[1])
    np.testing.assert_array_equal(cost[[0, 2, 3]], term.cost(usual)[[0, 2, 3]])


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


def test_latent_point_is_the_distance_from_where_the_path_ends() -> None:
    """The path of these ticks does not matter, only its end, and each dimension as the goal says."""
    latents = np.ones((N, H, D), np.float32)
    latents[1] += 2.0
    latents[2, -1, 0] += 3.0
    latents[3, :, 1] += 2.0
    weight = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0], np.float32)
    futures = rollouts(latents=latents, latent_weight=weight, target_latents=np.full((H, D), 9.0, np.float32))
    expected = [0.0, 0.5 * 4.0 * 5.0 / D, 0.5 * 9.0 / (H * D), 0.0]
    np.testing.assert_allclose(LatentPoint(weight=0.5).cost(futures), expected, rtol=1e-5)


@given(seed=st.integers(0, 99))
def test_for_a_goal_of_one_point_point_and_path_are_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    point = rng.normal(size=D).astype(np.float32)
    futures = rollouts(
        latents=rng.normal(size=(N, H, D)).astype(np.float32),
        goal_latent=point,
        target_latents=np.tile(point, (H, 1)),
    )
    np.testing.assert_allclose(LatentPoint(0.7).cost(futures), LatentTracking(0.7).cost(futures), rtol=1e-6)


def test_effort_is_squared_motion_and_no_gripper() -> None:
    actions = np.zeros((N, H, A), np.float32)
    actions[1, :, 0] = 0.2  # one scale along x all the time
    actions[2, 0, 3:6] = 0.4  # two scales about three axes, in one of five ticks
    actions[3, :, 6] = 1.0
    cost = Effort(weight=0.5, scale=0.2).cost(rollouts(actions=actions))
    np.testing.assert_allclose(cost, [0.0, 0.5, 0.5 * 12.0 / H, 0.0], rtol=1e-5)


def test_chunk_deviation_is_squared_difference_times_trust() -> None:
    chunk = np.full((H, A), 0.1, np.float32)
    actions = np.tile(chunk, (N, 1, 1))
    actions[1] += 0.05
    actions[2, 0, 6] += 0.10
    term = ChunkDeviation(weight=2.0, scale=0.05)
    futures = rollouts(actions=actions, chunk=chunk, chunk_trust=0.25)
    np.testing.assert_allclose(term.cost(futures), [0.0, 3.5, 2.0 * 0.25 * 4.0 / H, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(term.cost(replace(futures, chunk=None)), np.zeros(N))


@pytest.mark.parametrize("depth", [0.0, 0.05, 0.1])
def test_a_joint_costs_nothing_up_to_the_margin_and_one_at_its_bound(depth: float) -> None:
    upper = np.full(5, 10.0)
    upper[3] = SPEC.home[3] + 0.1 - depth
    term = JointLimits(0.5, np.full(5, -10.0), upper, margin=0.1)
    np.testing.assert_allclose(term.cost(rollouts()), np.full(N, 0.5 * (depth / 0.1) ** 2), atol=1e-4)


def test_moving_towards_a_joints_bound_costs_more_than_moving_away() -> None:
    actions = np.zeros((N, H, A), np.float32)
    actions[1, :, 0], actions[2, :, 0] = 0.3, -0.3
    elbow = AT_HOME.joints(actions)[:, -1, 2]
    nearer, farther = (1, 2) if elbow[1] > elbow[2] else (2, 1)
    upper = np.where(np.arange(5) == 2, SPEC.home[2] + 0.05, 10.0)
    cost = JointLimits(1.0, np.full(5, -10.0), upper, margin=0.1).cost(rollouts(actions=actions))
    assert cost[nearer] > cost[0] > cost[farther]


def test_going_down_costs_once_the_fingers_come_near_the_table() -> None:
    """Home is 0.12 m up: 0.09 m further down all is clear, 0.117 m further the last tick is 3 mm from it."""
    height = float(AT_HOME.clearance(AT_HOME.joints(np.zeros((1, 1, A), np.float32)))[0, 0])
    actions = np.zeros((N, H, A), np.float32)
    actions[1, :, 2] = (0.02 - height) / H / SPEC.translation_scale
    actions[2, :, 2] = (0.003 - height) / H / SPEC.translation_scale
    clearance = AT_HOME.clearance(AT_HOME.joints(actions))[2, -1]
    assert 0.0 < clearance < 0.006
    cost = Collision(0.5, margin=0.006).cost(rollouts(actions=actions))
    expected = 0.5 * (1.0 - clearance / 0.006) ** 2 / H
    np.testing.assert_allclose(cost, [0.0, 0.0, expected, 0.0], rtol=1e-4)


def test_temporal_distance_is_of_the_last_latent_to_the_goals_in_tens_of_ticks() -> None:
    rng = np.random.default_rng(0)
    latents, goal = rng.normal(size=(N, H, D)).astype(np.float32), rng.normal(size=D).astype(np.float32)
    futures = rollouts(latents=latents, goal_latent=goal)
    ticks = HEADS.ticks(latents[:, -1], goal)
    assert np.ptp(ticks) > 0.1
    np.testing.assert_allclose(TemporalDistance(0.5, HEADS).cost(futures), 0.5 * ticks / 10.0, rtol=1e-6)


def test_uncertainty_is_squared_expected_error_in_five_millimetres() -> None:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(N, H, D)).astype(np.float32)
    actions = rng.normal(size=(N, H, A)).astype(np.float32)
    metres = HEADS.error(latents, actions)
    cost = Uncertainty(0.5, HEADS).cost(rollouts(latents=latents, actions=actions))
    np.testing.assert_allclose(cost, 0.5 * (metres / 0.005) ** 2, rtol=1e-5)


def test_a_model_that_knows_its_own_spread_needs_no_heads_for_uncertainty() -> None:
    """Of tip and cubes at the rollout's end, as one vector."""
    spread = np.full(len(NAMES), 0.001)
    weights = {name: 0.0 for name in Weights().weights() if name.startswith("weight_")}
    weights = Weights(**weights | {"weight_uncertainty": 1.0})
    (term,) = Objective(weights, Model(None, spread), H, SPEC).terms
    latents = np.random.default_rng(0).normal(size=(N, H, D)).astype(np.float32)
    metres = np.abs(latents[:, -1]).mean(1) * 0.001 * len(NAMES) ** 0.5
    np.testing.assert_allclose(term.cost(rollouts(latents=latents)), (metres / 0.005) ** 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["weight_temporal_distance", "weight_uncertainty"])
def test_a_learned_term_is_refused_where_nothing_was_learned(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: the world model small has no heads.*train heads"):
        Objective(Weights(**{name: 1.0}), Model(None), H, SPEC)


def test_expected_error_is_refused_at_a_horizon_that_it_was_not_learned_at() -> None:
    Objective(Weights(weight_temporal_distance=1.0), Model(HEADS), 2 * H, SPEC)
    with pytest.raises(ValueError, match="rollouts of 5 ticks, the planner's have 10"):
        Objective(Weights(weight_uncertainty=1.0), Model(HEADS), 2 * H, SPEC)


def test_terms_without_weight_are_not_there_and_nothing_is_made_for_them() -> None:
    weights = {name: 0.0 for name in Weights().weights() if name.startswith("weight_")}
    with pytest.raises(ValueError, match="every weight"):
        Objective(Weights(**weights), Model(None), H, SPEC)
    for name in weights:
        (term,) = Objective(Weights(**weights | {name: 0.5}), Model(HEADS), H, SPEC).terms
        assert term.weight == 0.5
        assert name.removeprefix("weight_") == term.name
    assert not Objective(Weights(), Model(None), H, SPEC).needs_arm
    assert Objective(Weights(weight_collision=1.0), Model(None), H, SPEC).needs_arm


@pytest.mark.parametrize("seed", range(5))
def test_the_objective_is_the_sum_of_its_terms_and_names_the_largest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = {name: rng.uniform(0.1, 1.0) for name in Weights().weights() if name.startswith("weight_")}
    objective = Objective(Weights(**every), Model(HEADS), H, SPEC)
    assert len(objective.terms) == len(every)
    futures = rollouts(
        actions=rng.normal(size=(N, H, A)).astype(np.float32),
        latents=rng.normal(size=(N, H, D)).astype(np.float32),
        grounded=rng.normal(size=(N, H, G)).astype(np.float32),
    )
    each = np.array([term.cost(futures) for term in objective.terms])
    np.testing.assert_allclose(objective.cost(futures), each.sum(axis=0))
    for i in range(N):
        alone = {key: getattr(futures, key)[i : i + 1] for key in EACH}
        assert (
            objective.dominant(replace(futures, **alone)) == objective.terms[int(np.argmax(each[:, i]))].name
        )


@pytest.mark.parametrize(
    "name, value",
    [("weight_tip", -0.1), ("weight_effort", np.nan), ("weight_collision", 101.0), ("chunk_half_life", 0.0)],
)
def test_a_weight_out_of_bounds_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be within .* got {value}"):
        Weights(**{name: value})

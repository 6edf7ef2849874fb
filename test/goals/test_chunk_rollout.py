"""The goal that a policy's chunk amounts to, as the world model imagines it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.goals.buffer import GoalBuffer
from wm_vla_ros.goals.chunk_rollout import chunk_rollout
from wm_vla_ros.types import ActionChunk

START = np.array([0.2, 0.0, 0.1])


def chunk(actions, dt: float = 0.02) -> ActionChunk:
    return ActionChunk(3.5, 8, "ee_delta", dt, actions)


@given(seed=st.integers(0, 99), horizon=st.integers(1, 50))
def test_the_path_begins_where_the_policy_looked_and_goes_where_its_actions_lead(
    linear_model, spec, seed: int, horizon: int
) -> None:
    actions = np.random.default_rng(seed).uniform(-0.2, 0.2, (horizon, 7)).astype(np.float32)
    goal = chunk_rollout(linear_model, chunk(actions), linear_model.latent(START), "touch it")
    assert goal.embeddings.shape == (horizon + 1, linear_model.latent_dim)
    assert goal.embeddings.dtype == np.float32
    tips = linear_model.ground(goal.embeddings)[:, :3]
    np.testing.assert_allclose(tips[0], START, atol=1e-6)
    expected = START + np.cumsum(actions[:, :3] * spec.translation_scale, axis=0)
    np.testing.assert_allclose(tips[1:], expected, atol=1e-5)


def test_the_goal_carries_the_observation_s_time_and_the_chunk_s_number(linear_model) -> None:
    goal = chunk_rollout(linear_model, chunk(np.zeros((40, 7))), linear_model.latent(START), "touch it")
    assert (goal.stamp, goal.sequence, goal.instruction, goal.dt) == (3.5, 8, "touch it", 0.02)
    assert goal.encoder_id == linear_model.encoder_id
    assert goal.valid_for > 40 * 0.02


def test_a_goal_buffer_takes_it(linear_model) -> None:
    goal = chunk_rollout(linear_model, chunk(np.zeros((40, 7))), linear_model.latent(START), "touch it")
    buffer = GoalBuffer(linear_model.encoder_id, linear_model.latent_dim)
    buffer.offer(goal, 3.8)
    assert buffer.current(3.8) is goal


def test_a_chunk_of_another_period_is_refused(linear_model) -> None:
    """Its actions are displacements per tick: at another period they are another motion."""
    with pytest.raises(ValueError, match=r"chunk period 0\.04 s is not the world model's 0\.02 s"):
        chunk_rollout(linear_model, chunk(np.zeros((10, 7)), dt=0.04), linear_model.latent(START), "")

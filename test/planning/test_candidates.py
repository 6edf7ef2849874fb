"""Action sequences that the sampler starts from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.planning.candidates import follow_path, hold, shifted
from wm_vla_ros.types import Plan

SCALE, H = 0.02, 10
POINT = st.tuples(*[st.floats(-0.1, 0.1)] * 3).map(np.array)
# What play has shown the world model, and what the gate leaves alone: 0.45 m/s and 5 m/s^2.
FASTEST, FASTEST_CHANGE = 0.009, 0.002


def rest() -> np.ndarray:
    return np.tile(np.float32([9.0, 9.0, 9.0, 0.1, 0.2, 0.3, 0.4]), (H, 1))


@given(tip=POINT, end=POINT, previous=POINT)
def test_following_a_path_keeps_to_speed_and_acceleration(tip, end, previous) -> None:
    target = tip + np.linspace(0.1, 1.0, H)[:, None] * (end - tip)
    before = np.clip(previous, -FASTEST / 2, FASTEST / 2) / SCALE
    actions = follow_path(tip, target, np.array([*before, 0.0, 0.0, 0.0, 0.0]), rest(), SCALE)
    moved = actions[:, :3] * SCALE
    steps = np.diff(np.concatenate([before[None] * SCALE, moved]), axis=0)
    assert np.linalg.norm(moved, axis=1).max() <= FASTEST + 1e-6
    assert np.linalg.norm(steps, axis=1).max() <= FASTEST_CHANGE + 1e-6
    np.testing.assert_array_equal(actions[:, 3:], rest()[:, 3:])


def test_a_path_at_the_present_speed_is_followed_exactly() -> None:
    velocity = np.array([0.003, -0.001, 0.002])
    target = velocity * np.arange(1, H + 1)[:, None]
    actions = follow_path(np.zeros(3), target, np.array([*velocity, 0, 0, 0, 0]) / SCALE, rest(), SCALE)
    np.testing.assert_allclose(np.cumsum(actions[:, :3] * SCALE, axis=0), target, atol=1e-6)


def test_an_arm_beside_the_path_comes_back_to_it() -> None:
    target = np.tile([0.01, 0.0, 0.0], (40, 1))
    actions = follow_path(np.zeros(3), target, np.zeros(7), np.zeros((40, 7)), SCALE)
    ends = np.cumsum(actions[:, :3] * SCALE, axis=0)
    np.testing.assert_allclose(ends[-1], target[-1], atol=2e-3)


def test_the_given_sequence_is_not_changed() -> None:
    given_rest = rest()
    follow_path(np.zeros(3), np.ones((H, 3)), np.zeros(7), given_rest, SCALE)
    hold(given_rest)
    np.testing.assert_array_equal(given_rest, rest())


def test_holding_stands_still_with_the_gripper_as_it_is() -> None:
    actions = hold(rest())
    np.testing.assert_array_equal(actions[:, :6], 0.0)
    np.testing.assert_allclose(actions[:, 6], 0.4)


@pytest.mark.parametrize(
    "ticks, rows",
    [
        (0, [0, 1, 2, 3, 3, 3]),
        (1, [1, 2, 3, 3, 3, 3]),
        (2, [2, 3, 3, 3, 3, 3]),
        (9, [3] * 6),
        (-2, [0, 1, 2, 3, 3, 3]),
    ],
)
def test_a_plan_is_shifted_by_time_so_that_a_missed_tick_shifts_by_two(ticks: int, rows: list[int]) -> None:
    actions = np.arange(4, dtype=np.float32)[:, None] * np.ones(7, np.float32)
    plan = Plan(0.0, 1, "mpc", 5.0, 0.02, actions)
    np.testing.assert_array_equal(shifted(plan, 5.0 + ticks * 0.02, 6)[:, 0], rows)

"""How the asynchronous baselines follow a path."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.baselines.path_following import follow_path

SCALE, H = 0.02, 10
POINT = st.tuples(*[st.floats(-0.1, 0.1)] * 3).map(np.array)
# 0.45 m/s and 5 m/s^2, per tick.
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

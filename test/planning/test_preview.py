"""The motion that follows a path best over the horizon."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.planning.preview import Preview

SCALE, H = 0.02, 10
POINT = st.tuples(*[st.floats(-0.05, 0.05)] * 3).map(np.array)
REST = np.tile(np.float32([9.0, 9.0, 9.0, 0.1, 0.2, 0.3, 0.4]), (H, 1))


def action(velocity: np.ndarray) -> np.ndarray:
    """The action (7,) of a velocity (3,) in metres per tick."""
    return np.array([*(velocity / SCALE), 0.0, 0.0, 0.0, 0.0], np.float32)


def objective(moves: np.ndarray, target: np.ndarray, before: np.ndarray, smoothness: float) -> float:
    """What it is to minimise. moves: (H, 3) metres."""
    weights = np.ones(H)
    weights[-1] = 3.0
    error = np.cumsum(moves, axis=0) - target
    change = np.diff(np.concatenate([before[None], moves]), axis=0)
    return float(weights @ np.sum(error**2, axis=1) + smoothness * np.sum(change**2))


@given(end=POINT, velocity=POINT, smoothness=st.floats(0.1, 20.0), seed=st.integers(0, 1000))
def test_no_other_motion_is_better(end, velocity, smoothness: float, seed: int) -> None:
    target = np.linspace(0.1, 1.0, H)[:, None] * end
    before = velocity / 10.0
    moves = Preview(H, SCALE, smoothness)(np.zeros(3), target, action(before), REST)[:, :3] * SCALE
    best = objective(moves.astype(np.float64), target, before, smoothness)
    for noise in np.random.default_rng(seed).normal(0.0, 1e-3, (20, H, 3)):
        assert objective(moves + noise, target, before, smoothness) >= best - 1e-9


@given(velocity=POINT)
def test_a_path_at_the_present_speed_is_followed_exactly(velocity) -> None:
    velocity = velocity / 10.0
    target = velocity * np.arange(1, H + 1)[:, None]
    moves = Preview(H, SCALE, 2.5)(np.zeros(3), target, action(velocity), REST)[:, :3] * SCALE
    np.testing.assert_allclose(moves, np.tile(velocity, (H, 1)), atol=1e-6)


def test_it_slows_down_before_the_path_stops() -> None:
    velocity = np.array([0.005, 0.0, 0.0])
    target = velocity * np.minimum(np.arange(1, H + 1), 5)[:, None]
    moves = Preview(H, SCALE, 2.5)(np.zeros(3), target, action(velocity), REST)[:, :3] * SCALE
    assert moves[3, 0] < 0.95 * velocity[0]
    assert np.cumsum(moves, axis=0)[-1, 0] < 1.02 * target[-1, 0]


def test_more_smoothness_changes_less() -> None:
    target = np.tile([0.02, 0.0, 0.0], (H, 1))
    first = [Preview(H, SCALE, s)(np.zeros(3), target, np.zeros(7), REST)[0, 0] for s in (0.1, 1.0, 10.0)]
    assert first[0] > first[1] > first[2] > 0.0


def test_rotation_and_gripper_are_those_that_were_given() -> None:
    actions = Preview(H, SCALE, 2.5)(np.zeros(3), np.ones((H, 3)), np.zeros(7), REST)
    np.testing.assert_array_equal(actions[:, 3:], REST[:, 3:])
    assert REST[0, 0] == 9.0

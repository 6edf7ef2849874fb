"""The drift estimate: finds a constant disturbance, and does not take a servo's lag for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.belief.bias import BiasEstimator
from wm_vla_ros.types import AppliedAction

DT, SCALE, DEADBAND, LIMIT = 0.02, 0.02, 0.006, 0.15


def smooth(seed: int, ticks: int = 200) -> np.ndarray:
    """Translations (ticks, 3) as a demonstration makes them: up to 3.5 mm a tick, changing smoothly."""
    rng = np.random.default_rng(seed)
    actions, velocity = [], np.zeros(3)
    for _ in range(ticks):
        velocity = np.clip(velocity + rng.normal(0.0, 0.02, 3), -0.1, 0.1)
        actions.append(velocity)
    return np.array(actions)


def start_and_stop(ticks: int = 200) -> np.ndarray:
    actions = np.zeros((ticks, 3))
    actions[50:100, 0] = 0.175
    actions[130:170, 1] = -0.175
    return actions


def estimates(actions: np.ndarray, drift=(0.0, 0.0, 0.0), lag: float = 0.0, noise: float = 0.0) -> np.ndarray:
    """Values (ticks, 3) over a run whose tip follows commands with a first-order `lag` s, plus drift m/s."""
    rng = np.random.default_rng(0)
    timeline, bias = ActionTimeline(DT), BiasEstimator(SCALE, DT, limit=LIMIT, deadband=DEADBAND)
    commanded, tip, values = np.zeros(3), np.zeros(3), []
    for tick, action in enumerate(actions):
        bias.update(tip + rng.normal(0.0, noise, 3), tick * DT, timeline)
        timeline.applied(
            AppliedAction(tick * DT, tick, "mpc", [*action, 0.0, 0.0, 0.0, 0.0], ("joint",), np.zeros(1))
        )
        commanded = commanded + action * SCALE + np.array(drift) * DT
        tip = tip + (commanded - tip) * (1.0 if lag == 0.0 else 1.0 - np.exp(-DT / lag))
        values.append(bias.value)
    return np.array(values)


@settings(max_examples=20)
@given(drift=st.tuples(*[st.floats(-0.1, 0.1)] * 3), lag=st.sampled_from([0.0, 0.03, 0.06]))
def test_at_a_steady_command_the_estimate_goes_to_the_drift_itself(drift, lag: float) -> None:
    """A deadband that stays would leave its own size as an error for good. 1.5 s after the last change."""
    actions = np.zeros((160, 3))
    actions[20:60] = [0.15, 0.0, -0.1]
    values = estimates(actions, drift=drift, lag=lag)
    true = np.array(drift) * DT / SCALE
    assert np.abs(values[135:] - true).max() < 2e-4 + 0.01 * np.abs(true).max()


@pytest.mark.parametrize("lag", [0.0, 0.03])
def test_without_a_drift_it_goes_to_zero(lag: float) -> None:
    actions = np.zeros((160, 3))
    actions[20:60] = [0.15, 0.0, -0.1]
    assert np.abs(estimates(actions, lag=lag)[135:]).max() < 1e-4


@settings(max_examples=20)
@given(
    drift=st.tuples(*[st.floats(-0.06, 0.06)] * 2),
    seed=st.integers(0, 50),
    lag=st.sampled_from([0.0, 0.03]),
)
def test_a_constant_drift_is_found_within_a_second(drift, seed: int, lag: float) -> None:
    """Up to the deadband, which is what keeps lag from looking like drift."""
    true = np.array([*drift, 0.0])
    values = estimates(smooth(seed), drift=true, lag=lag)
    found = np.linalg.norm(values[50:] - true * DT / SCALE, axis=1)
    assert found.mean() < DEADBAND + 0.003
    assert found.max() < DEADBAND + 0.015


@pytest.mark.parametrize("lag, bound", [(0.0, 0.0), (0.03, 0.006), (0.06, 0.02)])
@pytest.mark.parametrize(
    "motion", [smooth(1), smooth(2), start_and_stop()], ids=["smooth 1", "smooth 2", "stop"]
)
def test_without_drift_a_lagging_servo_gives_nearly_nothing(motion, lag: float, bound: float) -> None:
    """0.02 is 0.4 mm a tick, at the worst instant of a hard start with a servo twice as slow as ours."""
    values = estimates(motion, lag=lag)
    assert np.linalg.norm(values, axis=1).max() <= bound
    assert np.abs(values.mean(axis=0)).max() < 0.002


def test_encoder_noise_gives_nearly_nothing() -> None:
    assert np.linalg.norm(estimates(smooth(3), noise=2e-4), axis=1).max() < 0.003


@given(drift=st.tuples(*[st.floats(-5.0, 5.0)] * 3))
@settings(max_examples=20)
def test_the_estimate_never_exceeds_what_is_believable(drift) -> None:
    """An arm that somebody pulls away is not a drift to be compensated at full speed."""
    assert np.abs(estimates(smooth(0, 120), drift=drift)).max() <= LIMIT


def test_a_drift_that_ends_is_forgotten_within_a_second() -> None:
    timeline, bias = ActionTimeline(DT), BiasEstimator(SCALE, DT)
    tip = np.zeros(3)
    for tick in range(150):
        bias.update(tip, tick * DT, timeline)
        timeline.applied(AppliedAction(tick * DT, tick, "mpc", np.zeros(7), ("joint",), np.zeros(1)))
        tip = tip + np.array([0.001 if tick < 75 else 0.0, 0.0, 0.0])
        if tick == 75:
            assert bias.value[0] > 0.03
    np.testing.assert_allclose(bias.value, 0.0, atol=2e-3)


def test_nothing_is_estimated_before_the_window_is_full_or_without_known_actions() -> None:
    bias = BiasEstimator(SCALE, DT, window=0.2)
    for tick in range(50):
        bias.update(np.array([0.01 * tick, 0.0, 0.0]), tick * DT, ActionTimeline(DT))
    np.testing.assert_array_equal(bias.value, 0.0)


def test_reset_forgets_the_drift_and_the_pose() -> None:
    """After an arm was moved by hand, the jump is no motion to be explained."""
    timeline, bias = ActionTimeline(DT), BiasEstimator(SCALE, DT)
    for tick in range(60):
        timeline.applied(AppliedAction(tick * DT, tick, "mpc", np.zeros(7), ("joint",), np.zeros(1)))
        bias.update(np.array([0.001 * tick, 0.0, 0.0]), tick * DT, timeline)
    assert bias.value[0] > 0.02
    bias.reset()
    np.testing.assert_array_equal(bias.value, 0.0)
    bias.update(np.array([0.3, 0.0, 0.0]), 59 * DT, timeline)
    np.testing.assert_array_equal(bias.value, 0.0)

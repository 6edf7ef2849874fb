"""Delay estimates: from stamps, and from how the arm answers what it was told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.belief.delay import ActuationDelay, DelayWindow, observation_delay
from wm_vla_ros.types import AppliedAction

DT, SCALE = 0.02, 0.02


class TestObservationDelay:
    def test_the_cold_start_is_never_counted(self) -> None:
        delay = observation_delay()
        for _ in range(10):
            delay.add(2.0)
        assert delay.estimate() is None
        for _ in range(10):
            delay.add(0.05)
        assert delay.estimate().value == pytest.approx(0.05)
        assert delay.estimate().samples == 10

    def test_it_is_below_the_middle_and_says_how_wide_the_spread_is(self) -> None:
        rng, delay = np.random.default_rng(0), observation_delay()
        for sample in 0.05 + np.abs(rng.normal(0.0, 0.01, 500)):
            delay.add(sample)
        estimate = delay.estimate()
        assert 0.05 < estimate.value < 0.055
        assert estimate.deviation == pytest.approx(0.006, abs=0.002)
        assert estimate.samples == 150

    def test_a_tenth_of_stragglers_changes_nothing(self) -> None:
        delay = observation_delay()
        for index in range(200):
            delay.add(1.5 if index % 10 == 0 else 0.04)
        assert delay.estimate().value == pytest.approx(0.04)
        assert delay.estimate().deviation < 0.001

    def test_what_is_no_delay_is_left_out(self) -> None:
        delay = DelayWindow(cold=0, least=1, most=10)
        for bad in (np.nan, np.inf, -0.01):
            delay.add(bad)
        assert delay.estimate() is None


def wander(seed: int, ticks: int) -> np.ndarray:
    """Translations (ticks, 3) of some 3 mm a tick that change all the time."""
    rng = np.random.default_rng(seed)
    phase, rate = rng.uniform(0.0, 6.0, 3), rng.uniform(0.6, 1.5, 3)
    times = np.arange(ticks)[:, None] * DT
    return 0.15 * np.sin(2 * np.pi * rate * times + phase)


def run(
    delay: float,
    seconds: float = 6.0,
    seed: int = 0,
    noise: float = 0.0,
    drift=(0.0, 0.0, 0.0),
    scale: float = 1.0,
) -> ActuationDelay:
    """An arm that is at each target `delay` s after it was written; measured at every tick with `noise` m.

    Half a tick of that is the way from one target to the next.
    """
    rng, ticks = np.random.default_rng(seed), round(seconds / DT)
    actions = wander(seed, ticks) * scale
    path = np.concatenate([np.zeros((1, 3)), np.cumsum(actions, axis=0)]) * SCALE
    timeline, estimator = ActionTimeline(DT), ActuationDelay(SCALE, DT)
    for tick in range(ticks):
        now = tick * DT
        then = max(0.0, now - delay + 0.5 * DT) / DT
        tip = np.array([np.interp(then, np.arange(ticks + 1), column) for column in path.T])
        tip = tip + rng.normal(0.0, noise, 3) + np.array(drift) * now
        motion = estimator.take(tip, now, timeline)
        if motion is not None:
            estimator.fit(motion)
        action = np.concatenate([actions[tick], np.zeros(4)])
        timeline.applied(AppliedAction(now, tick, "mpc", action, ("joint",), np.zeros(1)))
    return estimator


class TestActuationDelay:
    @settings(max_examples=15)
    @given(delay=st.floats(0.0, 0.1), seed=st.integers(0, 50))
    def test_a_pure_delay_is_found_to_a_tenth_of_a_tick(self, delay: float, seed: int) -> None:
        estimate = run(delay, seed=seed).estimate()
        assert estimate.value == pytest.approx(delay, abs=0.002)
        assert estimate.deviation < 0.002

    def test_under_encoder_noise_and_a_drift_that_nobody_modelled(self) -> None:
        estimate = run(0.045, noise=5e-4, drift=(0.05, 0.0, 0.0)).estimate()
        assert estimate.value == pytest.approx(0.045, abs=0.004)
        assert 0.0 < estimate.deviation < 0.005

    def test_an_arm_at_rest_says_nothing(self) -> None:
        assert run(0.04, scale=0.0, noise=5e-4).estimate() is None

    def test_a_motion_that_was_not_commanded_says_nothing(self) -> None:
        estimator, timeline = ActuationDelay(SCALE, DT), ActionTimeline(DT)
        moved = np.cumsum(wander(3, 300), axis=0) * SCALE
        told = wander(4, 300)
        for tick in range(300):
            motion = estimator.take(moved[tick], tick * DT, timeline)
            if motion is not None:
                estimator.fit(motion)
            action = np.concatenate([told[tick], np.zeros(4)])
            timeline.applied(AppliedAction(tick * DT, tick, "mpc", action, ("joint",), np.zeros(1)))
        assert estimator.estimate() is None

    def test_the_first_spans_are_never_counted(self) -> None:
        """1.2 s of window, two fits left out, three needed."""
        assert run(0.04, seconds=3.4).estimate() is None
        assert run(0.04, seconds=5.0).estimate() is not None

    def test_a_delay_beyond_what_is_looked_for_is_not_made_up(self) -> None:
        estimate = run(0.3).estimate()
        assert estimate is None or estimate.deviation > 0.005

    def test_after_a_jump_of_the_arm_the_motion_starts_over_and_the_estimate_stays(self) -> None:
        estimator = run(0.04)
        before = estimator.estimate()
        estimator.reset()
        assert estimator.take(np.array([0.3, 0.0, 0.0]), 6.0, ActionTimeline(DT)) is None
        assert estimator.estimate() == before

"""Bounds on speed, acceleration and jerk, in the samplers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wm_vla_ros.planning.samplers import SAMPLERS, MotionLimits, SamplerConfig, make_sampler

H = 12
LIMITS = MotionLimits(speed=0.45, change=0.04, jerk=0.03)
ANY = arrays(np.float32, (3, H, 7), elements=st.floats(-2.0, 2.0, width=32))
ROUNDING = 1e-5


def sizes(motion: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speed, change and change of change (N, H) of `motion` (N, H, 7) after `last` (2, 7)."""
    before = np.broadcast_to(last[None, :, :3], (len(motion), 2, 3))
    speed = np.concatenate([before, motion[:, :, :3]], axis=1)
    change = np.diff(speed, axis=1)
    length = [np.linalg.norm(vectors, axis=2)[:, -H:] for vectors in (speed, change, np.diff(change, axis=1))]
    return length[0], length[1], length[2]


@given(actions=ANY, start=arrays(np.float32, (3,), elements=st.floats(-0.25, 0.25, width=32)))
def test_what_comes_out_is_within_the_limits_whatever_goes_in(actions, start) -> None:
    last = np.zeros((2, 7), np.float32)
    last[:, :3] = start  # at a steady speed
    speed, change, jerk = sizes(LIMITS.apply(actions.copy(), last), last)
    assert speed.max() <= LIMITS.speed + ROUNDING
    assert change.max() <= LIMITS.change + ROUNDING
    slower = speed < LIMITS.speed - 1e-3  # who stops speeding up at the greatest speed may do so at once
    assert np.all(jerk[slower] <= LIMITS.jerk + ROUNDING)


@given(actions=ANY)
def test_only_the_translation_is_limited(actions) -> None:
    last = np.zeros((2, 7), np.float32)
    np.testing.assert_array_equal(LIMITS.apply(actions.copy(), last)[:, :, 3:], actions[:, :, 3:])


@given(actions=ANY)
def test_a_motion_within_the_limits_is_left_as_it_is(actions) -> None:
    """Made slow as a whole: one that was held at the greatest speed stopped speeding up at once, a jerk."""
    last = np.zeros((2, 7), np.float32)
    motion = MotionLimits(1e3, LIMITS.change, LIMITS.jerk).apply(actions.copy(), last)
    fastest = sizes(motion, last)[0].max()
    motion[:, :, :3] *= min(1.0, 0.99 * LIMITS.speed / max(fastest, 1e-9))
    np.testing.assert_allclose(LIMITS.apply(motion.copy(), last), motion, atol=1e-5)


@given(actions=ANY)
def test_a_mean_of_motions_within_the_limits_is_within_them(actions) -> None:
    """What MPPI answers is a mean: it needs no limiting of its own."""
    last = np.zeros((2, 7), np.float32)
    within = LIMITS.apply(actions.copy(), last)
    _, change, jerk = sizes(within.mean(axis=0, keepdims=True), last)
    assert change.max() <= LIMITS.change + ROUNDING
    assert jerk.max() <= LIMITS.jerk + LIMITS.change + ROUNDING


def test_what_was_beyond_a_limit_before_is_taken_as_at_it() -> None:
    last = np.zeros((2, 7), np.float32)
    last[1, 0] = 0.9  # the gate let more through, or another source drove
    motion = LIMITS.apply(np.zeros((1, H, 7), np.float32), last)
    assert motion[0, 0, 0] <= LIMITS.speed + ROUNDING
    assert np.all(np.diff(motion[0, :, 0]) <= ROUNDING)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gradient"])
def test_every_sampler_answers_within_the_limits(name: str) -> None:
    config = SamplerConfig(sigma=(0.3,) * 3 + (0.0,) * 4, horizon=H, samples=32, iterations=3, limits=LIMITS)
    sampler = make_sampler(name, config, np.random.default_rng(0))
    last = np.zeros((2, 7), np.float32)
    far = np.ones(3, np.float32)

    def cost(actions: np.ndarray) -> np.ndarray:
        return np.square(actions[:, :, :3].sum(axis=1) - far).sum(axis=1).astype(np.float64)

    start = np.zeros((H, 7), np.float32)
    found = sampler.solve([start, start + np.float32(1.0)], cost, last=last).actions
    speed, change, _ = sizes(found[None], last)
    assert change.max() <= LIMITS.change + ROUNDING
    assert speed.max() > 0.2  # and they are no reason to stand still


@pytest.mark.parametrize("field", ["speed", "change", "jerk"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_none_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        MotionLimits(**{"speed": 0.45, "change": 0.04, "jerk": 0.03, field: value})

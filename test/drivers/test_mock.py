"""The arm in memory follows, lags, and fails when it is told to."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.mock import (
    READ_NAN,
    READ_OLD,
    READ_RAISES,
    WRITE_RAISES,
    MockActionMap,
    MockBackend,
    MockSpec,
)

SPEC = MockSpec()


def at(value: float) -> np.ndarray:
    target = SPEC.home.copy()
    target[0] = value
    return target


def test_follows_with_its_lag() -> None:
    arm = MockBackend(SPEC, FakeClock(), SPEC.home, lag=0.5)
    arm.write(SPEC.home + 0.1)
    assert arm.read().position == pytest.approx(SPEC.home + 0.05)
    with pytest.raises(ValueError, match="lag"):
        MockBackend(SPEC, FakeClock(), SPEC.home, lag=1.0)


def test_sentinels_make_it_fail_until_it_is_sent_elsewhere() -> None:
    clock = FakeClock()
    arm = MockBackend(SPEC, clock, SPEC.home)
    arm.write(at(READ_RAISES))
    with pytest.raises(OSError, match="answer"):
        arm.read()
    arm.write(at(READ_NAN))
    assert np.isnan(arm.read().position).tolist() == [False, True, False, False, False, False]
    arm.write(at(READ_OLD))
    clock.advance(1.0)
    assert arm.read().stamp == 0.0
    before = arm.read().position
    with pytest.raises(OSError, match="packet"):
        arm.write(at(WRITE_RAISES))
    arm.write(before)
    arm.write(at(0.0))
    assert arm.read().stamp == 1.0


def test_sentinels_fit_in_a_plan() -> None:
    for value in (READ_RAISES, READ_NAN, READ_OLD, WRITE_RAISES):
        assert float(np.float32(value)) == value


def test_its_action_map_returns_the_action_that_it_was_given() -> None:
    action_map = MockActionMap(SPEC)
    action_map.reset(SPEC.home)
    action = np.array([0.5, -0.5, 0.1, 0.2, -1.0, 0.0, 0.15], np.float32)
    target = action_map.step(action, SPEC.home)
    assert action_map.step(action, SPEC.home).tolist() == target.tolist()  # nothing changes before commit
    assert action_map.commit(target)[:5] == pytest.approx(action[:5], abs=1e-6)

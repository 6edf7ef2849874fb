"""HOLD brakes within the limits and settles on the pose that was measured."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.drivers.mock import MockSpec
from wm_vla_ros.safety.gate import Gate
from wm_vla_ros.safety.hold import Hold
from wm_vla_ros.safety.limits import JointLimits

SPEC = MockSpec()
LIMITS = JointLimits.of(SPEC)


def moving_gate() -> Gate:
    gate = Gate(LIMITS)
    gate.sync(SPEC.home, 0.0)
    for k in range(1, 11):
        gate.follow(gate.position + 0.03, k * SPEC.dt)
    return gate


def run(hold: Hold, gate: Gate, measured: np.ndarray, ticks: int = 60) -> np.ndarray:
    return np.array([gate.position, *(hold.step(measured, (11 + k) * SPEC.dt) for k in range(ticks))])


def test_speed_falls_as_fast_as_the_limit_allows() -> None:
    gate = moving_gate()
    speed = 0.03
    steps = np.diff(run(Hold(gate), gate, gate.position, 2), axis=0)
    expected = np.maximum(speed - np.outer([1, 2], LIMITS.step_change), 0.0)
    assert steps == pytest.approx(expected, abs=1e-12)


def test_settles_on_the_pose_measured_when_the_command_stood_still() -> None:
    gate = moving_gate()
    hold = Hold(gate)
    lagging = gate.position - 0.02
    written = run(hold, gate, lagging)
    assert written[-1] == pytest.approx(lagging, abs=1e-12)


def test_does_not_sink_with_an_arm_that_sags() -> None:
    """A hold that follows the measurement moves its target down with every bit of sag, for ever."""
    gate = moving_gate()
    hold = Hold(gate)
    run(hold, gate, gate.position)
    rest = gate.position
    for k in range(50):
        hold.step(rest - 0.001 * k, (80 + k) * SPEC.dt)
    assert gate.position.tolist() == rest.tolist()


def test_a_pose_measured_past_the_limits_is_held_at_the_limit() -> None:
    gate = moving_gate()
    outside = SPEC.upper + 0.01
    assert run(Hold(gate), gate, outside, 200)[-1] == pytest.approx(LIMITS.upper)

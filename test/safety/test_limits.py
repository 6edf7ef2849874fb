"""How far a joint still goes when it brakes, against a simulation of the braking itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.drivers.mock import MockSpec
from wm_vla_ros.safety.limits import JointLimits, greatest_step, names_of


def travel(step: float, change: float) -> float:
    """Distance of `step` and of the braking after it, tick by tick."""
    total = 0.0
    while step > 0:
        total += step
        step -= change
    return total


@given(
    room=st.floats(0, 10, allow_subnormal=False),
    change=st.floats(1e-3, 1.0),
)
def test_greatest_step_uses_the_room_and_no_more(room: float, change: float) -> None:
    step = float(greatest_step(np.array([room]), np.array([change]))[0])
    assert travel(step, change) == pytest.approx(room, abs=1e-9)


def test_no_room_means_no_step() -> None:
    assert greatest_step(np.zeros(2), np.array([0.01, 0.1])).tolist() == [0.0, 0.0]


def test_limits_are_per_tick_and_less_the_margin() -> None:
    spec = MockSpec()
    limits = JointLimits.of(spec)
    assert limits.lower == pytest.approx(spec.lower + 0.02)
    assert limits.upper == pytest.approx(spec.upper - 0.02)
    assert limits.step == pytest.approx(spec.velocity_limit * 0.02)
    assert limits.step_change == pytest.approx(spec.acceleration_limit * 0.02**2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"joint_names": ("pan", "pan", "elbow", "flex", "roll", "gripper")}, "repeat"),
        ({"dt": 0.0}, "dt must be"),
        ({"limit_margin": float("nan")}, "margin"),
        ({"limit_margin": 2.0}, "no room"),
        ({"upper": np.full(6, np.nan)}, "finite"),
        ({"upper": np.ones(5)}, "6 finite"),
        ({"velocity_limit": np.zeros(6)}, "no room"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(change: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        JointLimits.of(replace(MockSpec(), **change))


def test_a_hostile_list_of_names_is_cut() -> None:
    text = names_of(["x" * 1000] * 100)
    assert len(text) < 1000
    assert text.endswith("and 92 more")

"""Joint measurements as they arrive: put in the robot's order, older ones dropped, jumps told by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.sensing.joints import JointStream, jumped
from wm_vla_ros.types import RobotState


def state(spec, stamp: float, position=None) -> RobotState:
    position = spec.home if position is None else position
    return RobotState(stamp, spec.joint_names, position, np.zeros(len(position)))


@given(order=st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_what_comes_out_is_in_the_order_of_time_whatever_comes_in(spec, order) -> None:
    """Fault case 31. Each measurement that is newer than all before it, and no other."""
    stream = JointStream(spec)
    out = [taken[0].stamp for tick in order if (taken := stream.take(state(spec, 0.01 * tick))) is not None]
    newest = [0.01 * tick for at, tick in enumerate(order) if tick > max(order[:at], default=-1)]
    assert out == newest


def test_a_jump_is_told_by_the_joints_names_and_once(spec) -> None:
    stream = JointStream(spec)
    stream.take(state(spec, 1.0))
    elsewhere = spec.home.copy()
    elsewhere[[1, 3]] += [0.5, -0.5]
    assert stream.take(state(spec, 1.01, elsewhere))[1] == (spec.joint_names[1], spec.joint_names[3])
    assert stream.take(state(spec, 1.02, elsewhere))[1] == ()


def test_a_measurement_from_before_a_jump_is_no_jump_back(spec) -> None:
    stream = JointStream(spec)
    stream.take(state(spec, 1.0))
    stream.take(state(spec, 1.02, spec.home + 0.5))
    assert stream.take(state(spec, 1.01)) is None
    assert stream.take(state(spec, 1.03, spec.home + 0.5))[1] == ()


def test_after_a_pause_the_arm_may_be_farther(spec) -> None:
    far = state(spec, 1.2, spec.home + 0.5)
    assert jumped(state(spec, 1.19), far, spec.velocity_limit).all()
    assert not jumped(state(spec, 1.0), far, spec.velocity_limit).any()


def test_a_bad_measurement_is_refused_by_name_and_forgotten(spec) -> None:
    stream = JointStream(spec)
    stream.take(state(spec, 1.0))
    bad = spec.home.copy()
    bad[2] = np.nan
    with pytest.raises(ValueError, match=spec.joint_names[2]):
        stream.take(state(spec, 1.01, bad))
    assert stream.take(state(spec, 1.01)) is not None


def test_a_missing_joint_is_refused_by_name_and_not_filled_in(spec) -> None:
    """Fault case 34."""
    stream = JointStream(spec)
    names = spec.joint_names[:2] + spec.joint_names[3:]
    short = RobotState(1.0, names, np.delete(spec.home, 2), np.zeros(len(names)))
    with pytest.raises(ValueError, match=rf"joints \['{spec.joint_names[2]}'\] are missing"):
        stream.take(short)
    assert stream.take(state(spec, 1.0)) is not None


def test_a_joint_that_is_there_twice_is_refused_by_name(spec) -> None:
    names = (*spec.joint_names, spec.joint_names[1])
    doubled = RobotState(1.0, names, np.append(spec.home, 0.0), np.zeros(len(names)))
    with pytest.raises(ValueError, match=rf"joints \['{spec.joint_names[1]}'\] are there more than once"):
        JointStream(spec).take(doubled)

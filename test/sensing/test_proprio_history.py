"""Proprioception at the time of an image: from messages that come late, twice, permuted or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.robots.proprio import proprio
from wm_vla_ros.sensing.proprio_history import ProprioHistory
from wm_vla_ros.types import AppliedAction, RobotState

RATE = np.array([0.1, -0.2, 0.15, 0.05, 0.3, 0.4])


def joints_at(spec, time: float) -> np.ndarray:
    """An arm whose joints move evenly from home."""
    return spec.home + RATE * time


def measured(spec, time: float, order=None) -> RobotState:
    order = list(order) if order is not None else list(range(spec.dof))
    names = tuple(spec.joint_names[i] for i in order)
    return RobotState(time, names, joints_at(spec, time)[order], np.zeros(spec.dof))


def applied(spec, time: float, value: float, order=None) -> AppliedAction:
    order = list(order) if order is not None else list(range(spec.dof))
    names = tuple(spec.joint_names[i] for i in order)
    return AppliedAction(time, 1, "mpc", np.zeros(7), names, (spec.home + value * RATE)[order])


def tip_of(history: ProprioHistory, stamp: float) -> np.ndarray | None:
    """Tip (3,) at the joints that the history has for `stamp`, commanded or not."""
    joints = history._interpolated(stamp)
    return None if joints is None else history._kinematics.tip_position(joints)


def newest_of(history: ProprioHistory) -> float:
    return history._measured[-1][0]


@pytest.fixture
def history(spec, kinematics) -> ProprioHistory:
    return ProprioHistory(kinematics, window=1.0)


def fill(history, spec, times) -> None:
    for time in times:
        history.on_joints(measured(spec, time))
    history.on_applied(applied(spec, -0.1, 0.0))


@given(stamp=st.floats(0.0, 0.5), step=st.floats(0.005, 0.05))
def test_joints_between_two_messages_are_interpolated(spec, kinematics, stamp: float, step: float) -> None:
    history = ProprioHistory(kinematics)
    fill(history, spec, np.arange(0.0, 0.6, step))
    expected = proprio(kinematics, joints_at(spec, stamp), spec.home)
    np.testing.assert_allclose(history.proprio_at(stamp), expected, atol=1e-6)
    np.testing.assert_allclose(
        tip_of(history, stamp), kinematics.tip_position(joints_at(spec, stamp)), atol=1e-6
    )


def test_the_newest_measurement_is_held_for_one_tick_and_no_longer(spec, kinematics, history) -> None:
    fill(history, spec, [0.0, 0.1])
    newest = proprio(kinematics, joints_at(spec, 0.1), spec.home)
    np.testing.assert_array_equal(history.proprio_at(0.1 + 0.9 * spec.dt), newest)
    assert history.proprio_at(0.1 + 1.1 * spec.dt) is None
    assert tip_of(history, 0.1 + 1.1 * spec.dt) is None


def test_before_the_history_there_is_no_answer(spec, history) -> None:
    assert history.proprio_at(0.0) is None
    fill(history, spec, [0.2, 0.3])
    assert history.proprio_at(0.19) is None
    assert history.proprio_at(0.2) is not None
    assert newest_of(history) == 0.3


def test_without_a_command_there_is_no_proprio_but_a_tip(spec, history) -> None:
    """A command is never made up from a measurement: that is what a policy was not trained on."""
    history.on_joints(measured(spec, 0.0))
    history.on_joints(measured(spec, 0.1))
    assert history.proprio_at(0.05) is None
    assert tip_of(history, 0.05) is not None
    history.on_applied(applied(spec, 0.06, 1.0))
    assert history.proprio_at(0.05) is None
    assert history.proprio_at(0.07) is not None


def test_the_window_is_bounded(spec, history) -> None:
    fill(history, spec, np.arange(0.0, 3.0, 0.01))
    assert history.proprio_at(1.9) is None
    assert tip_of(history, 2.5) is not None
    assert len(history._measured) <= 102


def test_the_command_is_the_one_before_the_stamp(spec, kinematics, history) -> None:
    """A command written at the very moment of the image has not moved anything that the image shows."""
    for time in np.arange(0.0, 0.2, 0.01):
        history.on_joints(measured(spec, time))
    for i, time in enumerate((0.0, 0.02, 0.04)):
        history.on_applied(applied(spec, time, float(i)))
    for stamp, value in [(0.019, 0.0), (0.02, 0.0), (0.021, 1.0), (0.04, 1.0), (0.15, 2.0)]:
        expected = proprio(kinematics, joints_at(spec, stamp), spec.home + value * RATE)
        np.testing.assert_allclose(history.proprio_at(stamp), expected, atol=1e-6, err_msg=str(stamp))


@given(order=st.permutations(range(30)), repeats=st.lists(st.integers(0, 29), max_size=10))
def test_late_and_repeated_messages_do_not_move_time_back(spec, kinematics, order, repeats) -> None:
    """Out of order, the older is dropped: the newest stamp only ever grows, and what is kept is true."""
    history = ProprioHistory(kinematics)
    history.on_applied(applied(spec, -0.1, 0.0))
    newest = -1.0
    for i in (*order, *repeats):
        history.on_joints(measured(spec, 0.01 * i))
        assert newest_of(history) >= newest
        newest = newest_of(history)
    assert newest == pytest.approx(0.29)
    np.testing.assert_allclose(
        history.proprio_at(newest), proprio(kinematics, joints_at(spec, newest), spec.home), atol=1e-6
    )


def test_a_repeated_stamp_keeps_the_first_value(spec, history, kinematics) -> None:
    fill(history, spec, [0.0, 0.1])
    history.on_joints(RobotState(0.1, spec.joint_names, spec.home + 1.0, np.zeros(6)))
    np.testing.assert_allclose(tip_of(history, 0.1), kinematics.tip_position(joints_at(spec, 0.1)), atol=1e-9)


@given(order=st.permutations(range(6)), command_order=st.permutations(range(6)))
def test_permuted_joints_are_mapped_by_name(spec, kinematics, order, command_order) -> None:
    history = ProprioHistory(kinematics)
    history.on_applied(applied(spec, -0.1, 2.0, command_order))
    history.on_joints(measured(spec, 0.0, order))
    history.on_joints(measured(spec, 0.1, order))
    expected = proprio(kinematics, joints_at(spec, 0.05), spec.home + 2.0 * RATE)
    np.testing.assert_allclose(history.proprio_at(0.05), expected, atol=1e-6)


def test_joints_of_others_in_the_same_message_are_left_out(spec, kinematics, history) -> None:
    names = ("wheel", *spec.joint_names)
    history.on_joints(RobotState(0.0, names, [9.0, *joints_at(spec, 0.0)], np.zeros(7)))
    np.testing.assert_allclose(tip_of(history, 0.0), kinematics.tip_position(spec.home), atol=1e-9)


@pytest.mark.parametrize(
    "names, words",
    [
        (("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"), "gripper.* missing"),
        (
            ("shoulder_pan", "shoulder_pan", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"),
            "shoulder_lift.* missing",
        ),
        (("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "jaw"), "jaw"),
        ((), "shoulder_pan.* missing"),
    ],
)
def test_missing_and_doubled_joints_are_refused_never_filled(spec, history, names, words) -> None:
    fill(history, spec, [0.0, 0.1])
    zeros = np.zeros(len(names))
    with pytest.raises(ValueError, match=words):
        history.on_joints(RobotState(0.2, names, zeros, zeros))
    with pytest.raises(ValueError, match=words):
        history.on_applied(AppliedAction(0.2, 1, "mpc", np.zeros(7), names, zeros))
    assert newest_of(history) == 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_joint_that_is_not_finite_is_refused_by_name_and_spoils_nothing(spec, history, bad: float) -> None:
    """One NaN in the history made every image of the next two seconds raise."""
    fill(history, spec, [0.0, 0.1])
    wrong = np.array(spec.home)
    wrong[2] = bad
    with pytest.raises(ValueError, match="elbow_flex"):
        history.on_joints(RobotState(0.11, spec.joint_names, wrong, np.zeros(6)))
    with pytest.raises(ValueError, match="elbow_flex"):
        history.on_applied(AppliedAction(0.11, 1, "mpc", np.zeros(7), spec.joint_names, wrong))
    assert history.proprio_at(0.11) is not None

"""Forward kinematics and the proprioception vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.robots.proprio import proprio, proprio_names

ANGLES = st.lists(st.floats(-1.6, 1.6), min_size=6, max_size=6).map(np.array)


@given(q=ANGLES)
def test_a_pose_is_a_rotation_and_a_point_within_reach(kinematics, q) -> None:
    rotation, position = kinematics.tip_pose(q)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.linalg.norm(position - [0.0, 0.0, 0.119]) < 0.4125
    np.testing.assert_array_equal(kinematics.tip_position(q), position)


@given(q=ANGLES, turn=st.floats(-1.0, 1.0))
def test_panning_turns_the_tip_about_the_vertical(kinematics, q, turn: float) -> None:
    turned = q.copy()
    turned[0] += turn
    before, after = kinematics.tip_position(q), kinematics.tip_position(turned)
    assert after[2] == pytest.approx(before[2], abs=1e-9)
    cos, sin = np.cos(turn), np.sin(turn)
    np.testing.assert_allclose(after[:2], np.array([[cos, -sin], [sin, cos]]) @ before[:2], atol=1e-9)


@given(q=ANGLES, opening=st.floats(-0.1, 1.7))
def test_the_gripper_does_not_move_the_tip(kinematics, q, opening: float) -> None:
    opened = np.array([*q[:5], opening])
    np.testing.assert_allclose(kinematics.tip_position(opened), kinematics.tip_position(q), atol=1e-12)


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros(7), np.zeros((1, 6)), [np.nan] * 6, [np.inf] * 6])
def test_joints_are_six_finite_numbers(kinematics, bad) -> None:
    with pytest.raises(ValueError, match="6 finite numbers"):
        kinematics.tip_pose(bad)


def test_results_are_the_callers_own(kinematics, spec) -> None:
    """MuJoCo's arrays are views of one buffer: an earlier pose would change when the next is asked for."""
    rotation, position = kinematics.tip_pose(spec.home)
    kept = position.copy(), rotation.copy()
    kinematics.tip_pose(np.zeros(6))
    np.testing.assert_array_equal(position, kept[0])
    np.testing.assert_array_equal(rotation, kept[1])


def test_proprio_holds_what_its_names_say(spec, kinematics) -> None:
    measured, commanded = spec.home, spec.home + 0.05
    values = proprio(kinematics, measured, commanded)
    named = dict(zip(proprio_names(spec), values, strict=True))
    assert values.dtype == np.float32
    assert len(set(proprio_names(spec))) == len(values) == 18
    for i, joint in enumerate(spec.joint_names):
        assert named[f"{joint}.position"] == pytest.approx(measured[i])
        assert named[f"{joint}.command"] == pytest.approx(commanded[i])
    for i, axis in enumerate("xyz"):
        assert named[f"tip.position.{axis}"] == pytest.approx(kinematics.tip_position(measured)[i])
        assert named[f"tip.command.{axis}"] == pytest.approx(kinematics.tip_position(commanded)[i])


@pytest.mark.parametrize("bad", [np.zeros(5), [0.0, 0.0, np.nan, 0.0, 0.0, 0.0]])
def test_proprio_of_bad_joints_is_refused(spec, kinematics, bad) -> None:
    for pair in ((bad, spec.home), (spec.home, bad)):
        with pytest.raises(ValueError, match="6 finite numbers"):
            proprio(kinematics, *pair)

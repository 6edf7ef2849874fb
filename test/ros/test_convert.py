"""Messages and values: round trips through the serialised bytes, and refusals of what contradicts itself."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rclpy.serialization import deserialize_message, serialize_message

from wm_vla_ros.ros import convert
from wm_vla_ros.ros.convert import MalformedMessage
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.types import (
    ActionChunk,
    AppliedAction,
    Fault,
    LatentGoal,
    LoopStats,
    Plan,
    RobotState,
    Severity,
)

DOOR = StampConverter(lambda: 1_700_000_000_000_000_000)
EPSILON = 5e-9

times = st.floats(1.0, 1e6)
sequences = st.integers(0, 2**64 - 1)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
floats32 = st.floats(width=32, allow_nan=True, allow_infinity=True)
floats64 = st.floats(allow_nan=True, allow_infinity=True)


widths = st.integers(1, 9)


def matrices(columns=widths):
    return columns.flatmap(
        lambda n: arrays(np.float32, st.tuples(st.integers(1, 12), st.just(n)), elements=floats32)
    )


def vectors(size, dtype=np.float64, elements=floats64):
    return arrays(dtype, size, elements=elements)


joints = st.lists(words, min_size=1, max_size=8).flatmap(
    lambda names: st.tuples(st.just(tuple(names)), vectors(len(names)), vectors(len(names)))
)


def same(left, right) -> None:
    """Every field equal; times to a few ns, arrays to the bit, NaN equal to NaN."""
    for entry in fields(left):
        a, b = getattr(left, entry.name), getattr(right, entry.name)
        if entry.name in ("stamp", "start"):
            assert a == pytest.approx(b, abs=EPSILON)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
            assert not b.flags.writeable
        else:
            assert a == b, entry.name


def through_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


@given(joints=joints, stamp=times)
def test_joint_states(joints, stamp):
    state = RobotState(stamp, *joints)
    message = through_the_wire(convert.joint_state_to_msg(state, DOOR))
    same(state, convert.joint_state_from_msg(message, DOOR))


@given(actions=matrices(), stamp=times, start=times, sequence=sequences, source=words, names=st.lists(words))
def test_plans(actions, stamp, start, sequence, source, names):
    plan = Plan(stamp, sequence, source, start, 0.02, actions, "ee_delta", tuple(names))
    message = through_the_wire(convert.plan_to_msg(plan, DOOR, "mpc_node-17"))
    assert message.writer == "mpc_node-17"
    same(plan, convert.plan_from_msg(message, DOOR))


@given(
    joints=joints,
    action=vectors(7, np.float32, floats32),
    stamp=times,
    changes=st.lists(words),
    sequence=st.integers(-1, 2**40),
)
def test_applied_actions(joints, action, stamp, changes, sequence):
    names, positions, _ = joints
    applied = AppliedAction(stamp, sequence, "mpc", action, names, positions, tuple(changes))
    message = through_the_wire(convert.applied_to_msg(applied, DOOR))
    same(applied, convert.applied_from_msg(message, DOOR))


@given(actions=matrices(), stamp=times, sequence=sequences)
def test_chunks(actions, stamp, sequence):
    chunk = ActionChunk(stamp, sequence, "ee_delta", 0.02, actions)
    message = through_the_wire(convert.chunk_to_msg(chunk, DOOR))
    same(chunk, convert.chunk_from_msg(message, DOOR))


@given(embeddings=matrices(), stamp=times, weighted=st.booleans(), instruction=words)
def test_goals(embeddings, stamp, weighted, instruction):
    precision = np.ones(embeddings.shape[1], np.float32) if weighted else None
    goal = LatentGoal(stamp, 3, instruction, "enc-1", embeddings, 0.02, 1.5, 0.5, precision)
    message = through_the_wire(convert.goal_to_msg(goal, DOOR))
    same(goal, convert.goal_from_msg(message, DOOR))


@given(stamp=times, severity=st.sampled_from(Severity), code=words, source=words, text=words)
def test_faults(stamp, severity, code, source, text):
    fault = Fault(stamp, code, severity, source, text)
    same(fault, convert.fault_from_msg(through_the_wire(convert.fault_to_msg(fault, DOOR)), DOOR))


@given(stamp=times, path=matrices(st.just(3)), empty=st.booleans())
def test_loop_stats(stamp, path, empty):
    path = np.zeros((0, 3), np.float32) if empty else path
    stats = LoopStats(stamp, 9, 0.5, 3.5, 40.0, 0.002, 0.1, 2, 0, "goal", path)
    same(stats, convert.stats_from_msg(through_the_wire(convert.stats_to_msg(stats, DOOR)), DOOR))


@given(image=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_images_keep_their_pixels_and_their_stamp(image):
    stamp = Time(sec=12, nanosec=34)
    message = through_the_wire(convert.image_to_msg(image, stamp, "camera"))
    assert message.header.stamp == stamp
    np.testing.assert_array_equal(convert.image_from_msg(message), image)


@settings(max_examples=30)
@given(poses=arrays(np.float64, (3, 7), elements=st.floats(-10, 10)))
def test_object_poses_keep_their_stamp(poses):
    message = through_the_wire(convert.poses_to_msg(poses, Time(sec=12, nanosec=34)))
    np.testing.assert_array_equal(convert.poses_from_msg(message), poses)
    assert message.header.stamp == Time(sec=12, nanosec=34)


def a_plan():
    return convert.plan_to_msg(Plan(1.0, 1, "mpc", 1.0, 0.02, np.zeros((2, 7))), DOOR)


def test_an_action_of_another_size_is_refused_and_not_cut():
    """13 numbers announced as rows of 7: truncating would move the arm by an action nobody planned."""
    message = a_plan()
    message.actions = message.actions[:13]
    with pytest.raises(MalformedMessage, match="13 numbers do not make rows of 7"):
        convert.plan_from_msg(message, DOOR)


@pytest.mark.parametrize("dim", [0, 6])
def test_a_plan_whose_rows_do_not_fit_is_refused(dim):
    message = a_plan()
    message.action_dim = dim
    with pytest.raises(MalformedMessage, match="plan actions"):
        convert.plan_from_msg(message, DOOR)


def test_an_empty_plan_is_refused():
    message = a_plan()
    message.actions = message.actions[:0]
    with pytest.raises(MalformedMessage, match="0 numbers"):
        convert.plan_from_msg(message, DOOR)


def test_a_missing_joint_is_refused_and_not_filled():
    message = convert.joint_state_to_msg(RobotState(1.0, ("a", "b"), [1.0, 2.0], [0.0, 0.0]), DOOR)
    message.velocity = message.velocity[:1]
    with pytest.raises(MalformedMessage, match="2 names, 2 positions, 1 velocities"):
        convert.joint_state_from_msg(message, DOOR)


def test_an_applied_action_without_all_joints_is_refused():
    applied = AppliedAction(1.0, 1, "mpc", np.zeros(7), ("a", "b"), [1.0, 2.0])
    message = convert.applied_to_msg(applied, DOOR)
    message.joint_positions = message.joint_positions[:1]
    with pytest.raises(MalformedMessage, match="2 names, 1 positions"):
        convert.applied_from_msg(message, DOOR)


def test_a_chunk_shorter_than_it_says_is_refused():
    message = convert.chunk_to_msg(ActionChunk(1.0, 1, "ee_delta", 0.02, np.zeros((4, 7))), DOOR)
    message.horizon = 5
    with pytest.raises(MalformedMessage, match="horizon 5, but 4 rows"):
        convert.chunk_from_msg(message, DOOR)


def test_a_goal_with_half_a_precision_is_refused():
    goal = LatentGoal(1.0, 1, "x", "e", np.zeros((1, 4)), 0.02, 1.0, 1.0, np.ones(4))
    message = convert.goal_to_msg(goal, DOOR)
    message.precision = message.precision[:3]
    with pytest.raises(MalformedMessage, match="3 precisions"):
        convert.goal_from_msg(message, DOOR)


def test_a_severity_that_does_not_exist_is_refused():
    message = convert.fault_to_msg(Fault(1.0, "x", Severity.ERROR, "s", "t"), DOOR)
    message.severity = 9
    with pytest.raises(MalformedMessage, match="9"):
        convert.fault_from_msg(message, DOOR)


@pytest.mark.parametrize(
    "change", [{"encoding": "bgr8"}, {"step": 10}, {"height": 3}, {"height": 0}, {"width": 0, "step": 0}]
)
def test_an_image_that_is_not_what_it_says_is_refused(change):
    message = convert.image_to_msg(np.zeros((2, 4, 3), np.uint8), Time(), "camera")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(MalformedMessage, match="image"):
        convert.image_from_msg(message)


def test_the_camera_matrix_projects_the_axis_and_the_edge_where_they_are():
    """45 degrees off a 90 degree axis is the image's edge, half a pixel outside the outermost centre."""
    info = convert.camera_info(96, 128, 90.0, "front")
    matrix = np.array(info.k).reshape(3, 3)
    axis, edge = matrix @ [0.0, 0.0, 1.0], matrix @ [0.0, 1.0, 1.0]
    np.testing.assert_allclose(axis[:2], [63.5, 47.5])
    np.testing.assert_allclose(edge[1], 95.5)
    assert (info.height, info.width, info.header.frame_id) == (96, 128, "front")

"""Observations put together from messages: what they hold, when they come, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.proprio import proprio
from wm_vla_ros.robots.spec import available_robots, load_robot
from wm_vla_ros.ros import convert
from wm_vla_ros.ros.observer import Observer
from wm_vla_ros.ros.time import StampConverter, no_offset_ns
from wm_vla_ros.types import AppliedAction, RobotState

DOOR = StampConverter(no_offset_ns)
SPEC = load_robot(available_robots()[0])


class Graph:
    """Stands in for a node: hands messages to whoever subscribed."""

    def __init__(self) -> None:
        self.callbacks = {}
        self.observations, self.tips, self.applied, self.refused, self.jumps = [], [], [], [], []
        self.observer = Observer(
            self,
            DOOR,
            SPEC,
            ("front", "wrist"),
            on_observation=self.observations.append,
            on_tip=lambda tip, at: self.tips.append((tip, at)),
            on_applied=self.applied.append,
            on_jump=lambda names: self.jumps.append((len(self.tips), names)),
            on_refused=self.refused.append,
        )

    def create_subscription(self, _kind, topic, callback, _profile):
        self.callbacks[topic] = callback

    def send_joints(self, stamp, position, names=SPEC.joint_names):
        state = RobotState(stamp, tuple(names), position, np.zeros(len(names)))
        self.callbacks["joint_states"](convert.joint_state_to_msg(state, DOOR))

    def send_applied(self, stamp, position):
        action = AppliedAction(stamp, 1, "mpc", np.zeros(7), SPEC.joint_names, position)
        self.callbacks["applied_action"](convert.applied_to_msg(action, DOOR))

    def send_image(self, camera, stamp, value=7, encoding="rgb8"):
        message = convert.image_to_msg(np.full((4, 4, 3), value, np.uint8), stamp, camera)
        message.encoding = encoding
        self.callbacks[f"camera/{camera}/image_raw"](message)


def stamp(seconds: float) -> Time:
    return DOOR.to_stamp(seconds)


@pytest.fixture
def graph():
    made = Graph()
    for tick in range(6):
        made.send_applied(0.98 + tick * 0.02 + 0.0003, SPEC.home + 0.001 * tick)
        made.send_joints(1.0 + tick * 0.02, SPEC.home)
    return made


def test_an_observation_holds_images_and_proprioception_of_the_images_own_time(graph):
    """Joints taken as they come, instead of at the image's time, were 30 ms of motion off."""
    graph.send_image("front", stamp(1.04), 1)
    assert graph.observations == []
    graph.send_image("wrist", stamp(1.04), 2)
    (seen,) = graph.observations
    assert seen.stamp == pytest.approx(1.04)
    assert {name: image[0, 0, 0] for name, image in seen.images.items()} == {"front": 1, "wrist": 2}
    commanded = SPEC.home + 0.001 * 2  # written at 1.0203, in force until 1.0403
    expected = proprio(Kinematics(SPEC), SPEC.home, commanded)
    np.testing.assert_allclose(seen.proprio, expected, atol=1e-6)


def test_images_without_joints_of_their_time_make_no_observation(graph):
    for camera in ("front", "wrist"):
        graph.send_image(camera, stamp(0.5))
    assert graph.observations == []
    assert graph.refused == []


def test_a_wrong_encoding_is_refused_by_camera_and_the_next_frame_is_taken(graph):
    graph.send_image("front", stamp(1.02), encoding="bgr8")
    assert len(graph.refused) == 1
    assert "front" in graph.refused[0]
    assert "bgr8" in graph.refused[0]
    for camera in ("front", "wrist"):
        graph.send_image(camera, stamp(1.04))
    assert len(graph.observations) == 1


def test_a_missing_joint_is_refused_and_not_filled_in(graph):
    known = len(graph.tips)
    graph.send_joints(1.12, SPEC.home[:-1], SPEC.joint_names[:-1])
    assert len(graph.tips) == known
    assert len(graph.refused) == 1
    assert f"['{SPEC.joint_names[-1]}'] are missing" in graph.refused[0]


def test_permuted_joints_are_mapped_by_name(graph):
    graph.send_joints(1.12, SPEC.home[::-1], SPEC.joint_names[::-1])
    graph.send_applied(1.1, SPEC.home)
    for camera in ("front", "wrist"):
        graph.send_image(camera, stamp(1.12))
    np.testing.assert_allclose(graph.observations[0].proprio[: SPEC.dof], SPEC.home, atol=1e-6)
    tip, at = graph.tips[-1]
    assert at == pytest.approx(1.12)
    np.testing.assert_allclose(tip, Kinematics(SPEC).tip_position(SPEC.home), atol=1e-6)
    assert graph.jumps == []


def test_a_jump_is_told_before_the_tip_that_shows_it_and_the_history_starts_anew(graph):
    """After a scene reset the arm is elsewhere: joints interpolated across the jump were never measured."""
    known = len(graph.tips)
    elsewhere = SPEC.home.copy()
    elsewhere[0] += 0.5
    graph.send_joints(1.12, elsewhere)
    assert graph.jumps == [(known, SPEC.joint_names[:1])]
    for camera in ("front", "wrist"):
        graph.send_image(camera, stamp(1.11))
    assert graph.observations == []


def test_the_fastest_motion_that_the_arm_can_make_is_no_jump(graph):
    graph.send_joints(1.12, SPEC.home + SPEC.velocity_limit * 0.02)
    assert graph.jumps == []

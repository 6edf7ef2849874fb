"""Observations from the graph: images, joints and commands of one instant put together.

What the planner's node and the policy's node both listen to, written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from wm_vla_msgs import msg as wm
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.time import StampConverter, stamp_key
from wm_vla_ros.sensing.frames import FrameMatcher
from wm_vla_ros.sensing.joints import JointStream
from wm_vla_ros.sensing.proprio_history import ProprioHistory
from wm_vla_ros.types import AppliedAction, Observation


class Observer:
    """Subscribes to cameras, joint_states and applied_action of one arm. All callbacks in one group.

    on_observation, on_tip (measured tip (3,) in metres, time) and on_applied get values on the process's
    clock; on_jump is called with the joints' names when the arm is suddenly somewhere else, before the tip
    that says so; on_refused with the words for a message that cannot be used.
    """

    def __init__(
        self,
        node: Node,
        stamps: StampConverter,
        spec: RobotSpec,
        cameras: Sequence[str],
        *,
        on_observation: Callable[[Observation], None],
        on_refused: Callable[[str], None],
        on_tip: Callable[[NDArray[np.float64], float], None] = lambda tip, at: None,
        on_applied: Callable[[AppliedAction], None] = lambda applied: None,
        on_jump: Callable[[tuple[str, ...]], None] = lambda names: None,
    ) -> None:
        self._stamps = stamps
        self._spec = spec
        self._kinematics = Kinematics(spec)
        self._cameras = cameras
        self._callbacks = on_observation, on_tip, on_applied, on_jump
        self._refused = on_refused
        self._joints = JointStream(spec)
        self._start_anew()
        node.create_subscription(JointState, "joint_states", self._on_joints, qos.STATE)
        node.create_subscription(wm.AppliedAction, "applied_action", self._on_applied, qos.HISTORY)
        for camera in cameras:
            topic = f"camera/{camera}/image_raw"
            node.create_subscription(Image, topic, partial(self._on_image, camera), qos.IMAGE)

    def _start_anew(self) -> None:
        self._history = ProprioHistory(self._kinematics)
        self._frames = FrameMatcher(self._cameras)

    def _on_joints(self, message: JointState) -> None:
        _, on_tip, _, on_jump = self._callbacks
        try:
            taken = self._joints.take(convert.joint_state_from_msg(message, self._stamps))
        except ValueError as error:
            self._refused(str(error))
            return
        if taken is None:
            return
        state, jumped = taken
        if jumped:
            self._start_anew()
            on_jump(jumped)
        self._history.on_joints(state)
        on_tip(self._kinematics.tip_position(state.position), state.stamp)

    def _on_applied(self, message: wm.AppliedAction) -> None:
        try:
            applied = convert.applied_from_msg(message, self._stamps)
            self._history.on_applied(applied)
        except ValueError as error:
            self._refused(str(error))
            return
        self._callbacks[2](applied)

    def _on_image(self, camera: str, message: Image) -> None:
        stamp = self._stamps.to_seconds(message.header.stamp)
        try:
            image = convert.image_from_msg(message)
            images = self._frames.add(camera, stamp_key(message.header.stamp), image)
            proprio = self._history.proprio_at(stamp) if images is not None else None
            if images is not None and proprio is not None:
                self._callbacks[0](Observation(stamp, images, proprio))
        except ValueError as error:
            self._refused(f"camera {camera}: {error}")

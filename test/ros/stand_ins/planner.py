"""In the planner's place, without a model: circles while there are goals, 10 actions ahead, at 50 Hz."""

from __future__ import annotations

import contextlib
import os
import time

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState

from wm_vla_msgs import msg as wm
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.types import Plan

GOAL_VALID = 0.6  # s
HORIZON, DT = 10, 0.02


class Planner(LifecycleNode):
    def __init__(self) -> None:
        super().__init__("mpc_node")
        self._stamps = StampConverter()
        self._goal_at = self._observed = float("-inf")
        self._sequence = 0
        self._plans = self.create_publisher(wm.Plan, "plan", qos.LATEST)
        self.create_subscription(wm.LatentGoal, "latent_goal", self._on_goal, qos.LATEST)
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.STATE)
        self.create_timer(DT, self._tick)

    def _on_goal(self, _message: wm.LatentGoal) -> None:
        self._goal_at = time.monotonic()

    def _on_joints(self, message: JointState) -> None:
        self._observed = self._stamps.to_seconds(message.header.stamp)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._goal_at > GOAL_VALID or self._observed < 0.0:
            return
        self._sequence += 1
        phase = 5.0 * (now + np.arange(HORIZON) * DT)
        actions = np.zeros((HORIZON, 7), np.float32)
        actions[:, 0], actions[:, 1], actions[:, 6] = 0.15 * np.sin(phase), 0.15 * np.cos(phase), 0.5
        plan = Plan(self._observed, self._sequence, "mpc", now, DT, actions)
        self._plans.publish(convert.plan_to_msg(plan, self._stamps, f"stand-in {os.getpid()}"))


if __name__ == "__main__":
    rclpy.init()
    node = Planner()
    node.trigger_configure()
    node.trigger_activate()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)

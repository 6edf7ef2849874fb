"""In the slow policy's place, without one: takes every instruction and keeps sending goals for 4 s."""

from __future__ import annotations

import contextlib
import time

import rclpy
from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode

from wm_vla_msgs import msg as wm
from wm_vla_msgs.action import ExecuteInstruction
from wm_vla_ros.ros import qos

GOALS, PERIOD = 20, 0.2


class Policy(LifecycleNode):
    def __init__(self) -> None:
        super().__init__("vla_node")
        self._goals = self.create_publisher(wm.LatentGoal, "latent_goal", qos.LATEST)
        self._server = ActionServer(
            self,
            ExecuteInstruction,
            "execute_instruction",
            execute_callback=self._execute,
            callback_group=ReentrantCallbackGroup(),
        )

    def _execute(self, goal: ServerGoalHandle) -> ExecuteInstruction.Result:
        for _ in range(GOALS):
            self._goals.publish(wm.LatentGoal())
            time.sleep(PERIOD)
        goal.succeed()
        return ExecuteInstruction.Result(outcome=ExecuteInstruction.Result.SUCCEEDED)


if __name__ == "__main__":
    rclpy.init()
    node = Policy()
    executor = MultiThreadedExecutor(3)
    executor.add_node(node)
    node.trigger_configure()
    node.trigger_activate()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()

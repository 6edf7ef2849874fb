"""GoalImageEncoder at a running stack from outside: what its driver wrote, which plans and faults went by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from wm_vla_msgs import msg as wm
from wm_vla_msgs.action import ExecuteInstruction
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.executor import Executor
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.types import AppliedAction, Fault, Plan

_POLL = 0.005
# Every plan, where the driver itself only ever wants the newest.
_EVERY = QoSProfile(depth=200, reliability=QoSReliabilityPolicy.RELIABLE)


class GraphWatch:
    """A node of its own, in a context of its own, that records topics and gives instructions.

    applied, faults, plans: everything heard so far, in order, appended by the executor's thread; times are
    seconds on CLOCK_MONOTONIC. Use as a context manager.
    """

    def __init__(self, namespace: str) -> None:
        self.applied: list[AppliedAction] = []
        self.faults: list[Fault] = []
        self.plans: list[Plan] = []
        self._stamps = StampConverter()
        self._context = Context()
        self._context.init()
        self._node = Node("watch", namespace=namespace, context=self._context)
        self._instructions = ActionClient(self._node, ExecuteInstruction, "execute_instruction")
        for kind, topic, profile, take in (
            (wm.AppliedAction, "applied_action", qos.HISTORY, self._on_applied),
            (wm.Fault, "faults", qos.FAULTS, self._on_fault),
            (wm.Plan, "plan", _EVERY, self._on_plan),
        ):
            self._node.create_subscription(kind, topic, take, profile)
        self._executor = Executor(self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, name="watch", daemon=True)

    def __enter__(self) -> GraphWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=2.0)
        self._instructions.destroy()
        self._node.destroy_node()
        self._context.try_shutdown()

    def instruct(self, instruction: str, timeout: float) -> None:
        """Give an instruction; a newer one takes over from it. Raises TimeoutError unless it is accepted."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self._instructions.wait_for_server(timeout_sec=0.1):
                continue
            goal = ExecuteInstruction.Goal(instruction=instruction)
            answer = self._instructions.send_goal_async(goal)
            # A server that was killed is still on the graph for a while, and never answers.
            if self.wait(answer.done, 2.0) and answer.result().accepted:
                return
        raise TimeoutError(f"nobody accepted {instruction!r} within {timeout} s")

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Whether `condition` came true within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _on_applied(self, message: wm.AppliedAction) -> None:
        self.applied.append(convert.applied_from_msg(message, self._stamps))

    def _on_fault(self, message: wm.Fault) -> None:
        self.faults.append(convert.fault_from_msg(message, self._stamps))

    def _on_plan(self, message: wm.Plan) -> None:
        self.plans.append(convert.plan_from_msg(message, self._stamps))

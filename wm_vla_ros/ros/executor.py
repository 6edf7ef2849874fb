"""The executor that every process of the stack spins: rclpy's EventsExecutor, without its endless wait.

Messages are queued by the middleware's own threads and dispatched in C++, which costs a node 0.24 ms of CPU a
message where `SingleThreadedExecutor`, which rebuilds its wait set in Python each time, costs 0.75 (one
subscription to JointState at 200 Hz): with two cores that is what the planner's deadline is made of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.node import Node
from rclpy.task import Future

# Seconds of one wait. `EventsExecutor.spin` waits until the end of time, which libstdc++ overflows when it
# converts it to another clock: the wait returns at once, for ever, and nothing is dispatched.
_WAIT = 3600.0


class Executor:
    """Runs the callbacks of nodes in the thread that calls `spin`, one at a time, in the order of arrival.

    A callback that blocks holds up all others; an exception in one ends `spin` with it. Not for a node that
    serves an action: of 40 servers asked for a goal right after they came up, 22 never heard of it.
    """

    def __init__(self, context: Context | None = None) -> None:
        self._executor = EventsExecutor(context=context)
        self._ended = Future()
        self._left = threading.Event()
        self._left.set()

    def add_node(self, node: Node) -> None:
        """Have the callbacks of `node` run here, those that it gets later too."""
        self._executor.add_node(node)

    def create_task(self, work: Callable[..., Any], *args: Any) -> None:
        """Have `work` done by the thread that spins."""
        self._executor.create_task(work, *args)

    def spin(self) -> None:
        """Run callbacks until `shutdown`, or until the context ends."""
        self._left.clear()
        try:
            while not self._ended.done():
                self._executor.spin_until_future_complete(self._ended, timeout_sec=_WAIT)
        except ExternalShutdownException:
            return
        finally:
            self._left.set()

    def shutdown(self, timeout_sec: float = 2.0) -> bool:
        """End `spin` from another thread. Whether the callback that was running ended within the timeout."""
        self._ended.set_result(None)
        if not self._left.wait(timeout_sec):
            return False
        self._executor.shutdown()
        return True

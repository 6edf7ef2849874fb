"""Running a node as a process: who waits where, and what ends it.

The main thread waits for a signal or a failure; callbacks run in an executor in a thread of its own, and
a node's control loop in a third.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from wm_vla_ros.processes import PARENT_VARIABLE, end_with
from wm_vla_ros.ros.executor import Executor
from wm_vla_ros.ros.lifecycle import EXIT_FAILED, EXIT_REFUSED, SUCCESS, ManagedNode
from wm_vla_ros.ros.params import ParameterError
from wm_vla_ros.scheduling import SWITCH_INTERVAL

# Seconds that a callback may still take when the process is told to end.
_DRAIN = 3.0
# Seconds after which a signal is noticed that came just before the wait and so did not end it.
_LOOK = 0.2


def run(make_node: Callable[[], ManagedNode], argv: list[str] | None = None, *, threads: int = 1) -> NoReturn:
    """Create, start and run one node until SIGINT, SIGTERM or its failure. Ends the process.

    threads: of the executor; more than one only where callbacks block, or an action is served.
    The exit code says whether the node ended as it should. Told to end with SIGTERM while it is at it, the
    process says on stderr where each of its threads is.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    follow_parent()
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
    except ParameterError as error:
        rclpy.logging.get_logger("wm_vla_ros").fatal(str(error))
        rclpy.shutdown()
        _leave(EXIT_REFUSED)
    loading = True
    ended: list[int] = []

    def end(number: int, _: object) -> None:
        # Not `finished.set()`: this may run while its own thread holds that event's lock.
        ended.append(number)
        if loading:  # a model takes seconds, and nothing runs yet that would have to be stopped in order
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    executor = Executor() if threads == 1 else MultiThreadedExecutor(threads)
    executor.add_node(node)
    spinner = threading.Thread(target=node.guard(lambda: _spin(executor, node)), name="executor", daemon=True)
    spinner.start()
    try:
        ready = not node.settings.autostart or node.trigger_configure() is SUCCESS
    except KeyboardInterrupt:
        ready = None
    loading = False
    if ready and node.settings.autostart:
        ready = node.trigger_activate() is SUCCESS
    if ready:
        while not ended and not node.finished.wait(_LOOK):
            pass
    # Who runs into the runner's patience has it in the log what held it up, also where that is no Python.
    faulthandler.register(signal.SIGTERM, chain=True)
    node.finished.set()
    node.interrupt()
    if executor.shutdown(timeout_sec=_DRAIN):
        spinner.join(timeout=_DRAIN)
    else:
        node.get_logger().warning(f"a callback did not end within {_DRAIN:g} s")
    if node.failure:
        node.get_logger().fatal(f"ends: {node.failure}")
    if ready is not None:  # interrupted while configuring, the state machine knows no way out
        node.trigger_shutdown()
    node.destroy_node()
    rclpy.shutdown()
    if ready is False:
        _leave(EXIT_REFUSED)
    _leave(EXIT_FAILED if node.failure else 0)


def _leave(code: int) -> NoReturn:
    """End this process, whose work is done, without a farewell.

    The interpreter's would walk a loaded policy's heap for seconds, and those of the middleware and of the
    inference library take apart what their own threads still use.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def follow_parent() -> None:
    """Have the kernel send SIGINT to this process when the stack runner that started it dies.

    Does nothing in a process that no runner started.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and not end_with(int(parent), signal.SIGINT):
        sys.exit(EXIT_FAILED)


def _spin(executor: Executor | MultiThreadedExecutor, node: ManagedNode) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return
    except Exception:
        # Shutting an executor down takes away what its thread may just be waiting with.
        if not node.finished.is_set():
            raise

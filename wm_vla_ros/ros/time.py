"""The one place where ROS time and the monotonic clock meet.

Inside a process every time is monotonic seconds; in a message every time is ROS time. The offset between
the two is read anew for each message, so a step of the wall clock disturbs at most the messages in flight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from builtin_interfaces.msg import Time
from rclpy.clock import Clock as RclpyClock
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node

from wm_vla_ros.clock import Clock, MonotonicClock

NANO = 1_000_000_000
# Between the two readings of one clock, the thread was probably not interrupted.
_UNDISTURBED_NS = 20_000
_ATTEMPTS = 4


def system_offset_ns() -> int:
    """System time minus monotonic time, ns.

    The system clock is read between two readings of the monotonic one; a reading that another thread
    interrupted is repeated, or the stamp of one message would be off by a scheduling delay.
    """
    best, narrowest = 0, None
    for _ in range(_ATTEMPTS):
        before = time.monotonic_ns()
        system = time.time_ns()
        after = time.monotonic_ns()
        width = after - before
        if narrowest is None or width < narrowest:
            best, narrowest = system - (before + after) // 2, width
        if width < _UNDISTURBED_NS:
            break
    return best


def no_offset_ns() -> int:
    """The offset where the process's clock *is* ROS time: under /clock."""
    return 0


class StampConverter:
    """Converts stamps. offset_ns: ROS time minus the process clock's time, ns, now."""

    def __init__(self, offset_ns: Callable[[], int] = system_offset_ns) -> None:
        self._offset_ns = offset_ns

    def to_seconds(self, stamp: Time) -> float:
        """Seconds on the process's clock at which `stamp` was or will be."""
        return (stamp.sec * NANO + stamp.nanosec - self._offset_ns()) / NANO

    def to_stamp(self, seconds: float) -> Time:
        """ROS time of a moment on the process's clock. Raises ValueError when it is not a finite number."""
        total = round(seconds * NANO) + self._offset_ns()
        return Time(sec=total // NANO, nanosec=total % NANO)


def stamp_key(stamp: Time) -> int:
    """A stamp as ns: equal for messages of the same instant, whichever process sent them."""
    return stamp.sec * NANO + stamp.nanosec


class RosClock:
    """`Clock` on /clock, for nodes under use_sim_time.

    rclpy's own sleep_until registers a shutdown callback per call and never removes it; this one
    registers a single jump callback for the node's life.
    """

    def __init__(self, clock: RclpyClock) -> None:
        self._clock = clock
        self._moved = threading.Condition()
        self._closed = False
        threshold = JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1))
        self._handle = clock.create_jump_callback(threshold, post_callback=self._on_jump)

    def _on_jump(self, _jump: object) -> None:
        with self._moved:
            self._moved.notify_all()

    def now(self) -> float:
        return self._clock.now().nanoseconds / NANO

    def sleep_until(self, deadline: float) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._closed or self.now() >= deadline)

    def close(self) -> None:
        """Wake every sleeper for good: /clock may have stopped."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._handle.unregister()


def node_clock(node: Node) -> tuple[Clock, StampConverter]:
    """The clock a node's logic runs on and its stamps: /clock under use_sim_time, else monotonic."""
    if node.get_parameter("use_sim_time").value:
        return RosClock(node.get_clock()), StampConverter(no_offset_ns)
    return MonotonicClock(), StampConverter(system_offset_ns)

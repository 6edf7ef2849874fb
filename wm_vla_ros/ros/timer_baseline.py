"""How well this machine keeps 50 Hz with nothing to do: a bare rclpy timer, and a bare sleeping thread.

The timer has default scheduling; the thread has SCHED_FIFO above everything in the stack, where that is
permitted, so that what is left of its lateness is the machine's own: other guests, interrupts, throttling.

Run as a process of its own: `python -m wm_vla_ros.ros.timer_baseline SECONDS`; prints one JSON object. What
a loop is late beyond this is its own doing.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from wm_vla_ros.realtime import request_fifo

PERIOD = 0.02
_ABOVE_THE_STACK = 40


def lateness_of_a_timer(seconds: float) -> list[float]:
    """ms by which each call of a 50 Hz rclpy timer came later than its place on the grid."""
    node = Node("timer_baseline")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    calls: list[float] = []
    node.create_timer(PERIOD, lambda: calls.append(time.monotonic()))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    # The grid's phase is not known: the earliest call in relation to it was on time.
    phases = [call - index * PERIOD for index, call in enumerate(calls)]
    return [(phase - min(phases)) * 1e3 for phase in phases]


def lateness_of_a_thread(seconds: float) -> list[float]:
    """ms by which a thread that only sleeps wakes up after its deadlines."""
    late: list[float] = []

    def sleep_on() -> None:
        request_fifo(_ABOVE_THE_STACK, _ABOVE_THE_STACK, lambda hint: None)
        deadline = time.monotonic()
        for _ in range(round(seconds / PERIOD)):
            deadline = max(deadline, time.monotonic() - PERIOD) + PERIOD
            time.sleep(max(0.0, deadline - time.monotonic()))
            late.append(max(0.0, time.monotonic() - deadline) * 1e3)

    thread = threading.Thread(target=sleep_on)
    thread.start()
    thread.join()
    return late


def main() -> None:
    """Measure one after the other, for the seconds given as the only argument, and print."""
    seconds = float(sys.argv[1])
    rclpy.init(args=[])
    timer = lateness_of_a_timer(seconds / 2)
    rclpy.shutdown()
    print(json.dumps({"timer_ms": timer, "thread_ms": lateness_of_a_thread(seconds / 2)}))


if __name__ == "__main__":
    main()

"""How well this machine keeps time with nothing to do: a bare rclpy timer, and threads that only sleep.

The timer has default scheduling and 50 Hz. There is one thread per core, at 250 Hz, under SCHED_FIFO above
everything in the stack where that is permitted, so that what is left of its lateness is the machine's own:
other guests, interrupts, throttling. Where such a thread did not run, nothing on that core did.

Run as a process of its own: `python -m wm_vla_ros.ros.timer_baseline SECONDS`; prints one JSON object. What
a loop is late beyond this is its own doing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from itertools import pairwise

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from wm_vla_ros.realtime import SWITCH_INTERVAL

PERIOD = 0.02
THREAD_PERIOD = 0.004
# A core that is gone for half a control period can make a tick late that is not due to its own work.
STALL = 0.01
_ABOVE_THE_STACK = 40


def lateness_of_a_timer(seconds: float) -> list[float]:
    """ms by which each period of a 50 Hz rclpy timer was too long."""
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
    return [max(0.0, after - before - PERIOD) * 1e3 for before, after in pairwise(calls)]


def watch_core(core: int, seconds: float, late: list[float], stalls: list[tuple[float, float]]) -> None:
    """Sleep on `core`. late: ms after each deadline. stalls: (begin, end) s, monotonic, of long absences."""
    os.sched_setaffinity(0, {core})
    begin = deadline = time.monotonic()
    while deadline < begin + seconds:
        deadline += THREAD_PERIOD
        time.sleep(max(0.0, deadline - time.monotonic()))
        now = time.monotonic()
        late.append(round(max(0.0, now - deadline) * 1e3, 4))
        if now - deadline > STALL:
            stalls.append((deadline, now))
        deadline = max(deadline, now - THREAD_PERIOD)


def main() -> None:
    """Measure both for the seconds given as the only argument, and print."""
    seconds = float(sys.argv[1])
    sys.setswitchinterval(SWITCH_INTERVAL)
    late: list[float] = []
    stalls: list[tuple[float, float]] = []
    cores = sorted(os.sched_getaffinity(0))
    threads = [threading.Thread(target=_witness, args=(core, seconds, late, stalls)) for core in cores]
    for thread in threads:
        thread.start()
    rclpy.init(args=[])
    timer = lateness_of_a_timer(seconds)
    rclpy.shutdown()
    for thread in threads:
        thread.join()
    print(json.dumps({"timer_ms": timer, "thread_ms": late, "stalls": sorted(stalls)}))


def _witness(core: int, seconds: float, late: list[float], stalls: list[tuple[float, float]]) -> None:
    # Without permission the baseline is what default scheduling gives; the nodes say how to permit more.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_ABOVE_THE_STACK))
    watch_core(core, seconds, late, stalls)


if __name__ == "__main__":
    main()

"""What a bare rclpy timer at 50 Hz, with default scheduling and nothing to do, keeps of its period here.

What a loop is late beyond this is its own doing.

`python -m wm_vla_ros.bench.timer_baseline` prints a line when it measures, and one JSON object when it is
told to end by SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from itertools import pairwise

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from wm_vla_ros.ros.executor import Executor
from wm_vla_ros.scheduling import SWITCH_INTERVAL

PERIOD = 0.02


def main() -> None:
    """Measure until SIGTERM, and print the ms by which each period was too long."""
    # Blocked before any thread is there, so that it waits for `sigwait` whichever moment it comes at.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.setswitchinterval(SWITCH_INTERVAL)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("timer_baseline")
    executor = Executor()
    executor.add_node(node)
    calls: list[float] = []
    node.create_timer(PERIOD, lambda: calls.append(time.monotonic()))
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    print("watching", flush=True)
    signal.sigwait({signal.SIGTERM})
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    rclpy.shutdown()
    late = [max(0.0, after - before - PERIOD) * 1e3 for before, after in pairwise(calls)]
    print(json.dumps({"late_ms": late, "stalls": []}))


if __name__ == "__main__":
    main()

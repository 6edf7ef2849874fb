"""One end of a transport measurement: a process that sends stamped messages, or one that takes their times.

`python -m wm_vla_ros.bench.transport_probe ROLE TRANSPORT JSON`: ROLE is `speak` or `listen`; TRANSPORT one
of TRANSPORTS; the JSON object has `rate` (Hz), `seconds` per payload and `payloads`, by name
{"kind": "image", "shape": [height, width]} or {"kind": "goal", "shape": [steps, dim]}.

A listener prints a line when it listens, and ends by SIGTERM. Both end with one JSON object by payload: the
number of messages that the speaker sent, the latencies in ms that the listener saw.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from wm_vla_msgs import msg as wm
from wm_vla_ros.clock import MonotonicClock
from wm_vla_ros.realtime import Ticker
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.spin import follow_parent
from wm_vla_ros.ros.time import NANO, StampConverter, no_offset_ns
from wm_vla_ros.ros.transport import PROFILES, wait_for_no_listener
from wm_vla_ros.scheduling import SWITCH_INTERVAL
from wm_vla_ros.types import LatentGoal

# Messages before those that count, sequence 0: the first ones pay for connections and page faults.
_WARM_UP = 10
_DISCOVERY = 30.0
# The end of discovery is seen by the speaker first; the last message needs time to arrive. Seconds.
_SETTLE = 0.5


def _no_profile() -> None:
    os.environ.pop(PROFILES, None)


# What the process does before it starts the middleware. "stack": what its environment says, as the nodes do.
TRANSPORTS: dict[str, Callable[[], None]] = {
    "none": _no_profile,
    "stack": lambda: None,
    "driver": wait_for_no_listener,
}
_KINDS = {"image": (Image, qos.IMAGE), "goal": (wm.LatentGoal, qos.LATEST)}


def speak(node: Node, job: Mapping[str, Any]) -> dict[str, int]:
    """Send every payload in turn; how many of each counted. Raises TimeoutError when nobody listens."""
    clock = MonotonicClock()
    publishers = {
        name: node.create_publisher(_KINDS[payload["kind"]][0], name, _KINDS[payload["kind"]][1])
        for name, payload in job["payloads"].items()
    }
    deadline = clock.now() + _DISCOVERY
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        if clock.now() > deadline:
            raise TimeoutError(f"nobody listens within {_DISCOVERY:g} s")
        clock.sleep_until(clock.now() + 0.02)
    clock.sleep_until(clock.now() + _SETTLE)
    sent = {}
    for name, payload in job["payloads"].items():
        make = _maker(payload["kind"], payload["shape"])
        ticker = Ticker(clock, 1.0 / job["rate"])
        sent[name] = round(job["seconds"] * job["rate"])
        for number in range(1 - _WARM_UP, sent[name] + 1):
            ticker.wait()
            publishers[name].publish(make(max(0, number)))
        clock.sleep_until(clock.now() + _SETTLE)
    return sent


def _maker(kind: str, shape: list[int]) -> Callable[[int], Any]:
    """Makes the message with a number, stamped with the monotonic time of its making."""
    stamps, rng = StampConverter(no_offset_ns), np.random.default_rng(0)
    if kind == "image":
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

        def image(number: int) -> Image:
            now = time.monotonic_ns()
            return convert.image_to_msg(pixels, Time(sec=now // NANO, nanosec=now % NANO), str(number))

        return image
    path = rng.normal(size=shape).astype(np.float32)

    def goal(number: int) -> wm.LatentGoal:
        made = LatentGoal(time.monotonic(), number, "touch the red cube", "encoder", path, 0.02, 1.0)
        return convert.goal_to_msg(made, stamps)

    return goal


def listen(node: Node, job: Mapping[str, Any], ended: list[int]) -> dict[str, list[float]]:
    """Take messages until `ended` holds something; ms from the making of each to its callback."""
    late: dict[str, list[float]] = {name: [] for name in job["payloads"]}

    def heard(name: str, message: Any) -> None:
        now = time.monotonic_ns()
        number = message.sequence if hasattr(message, "sequence") else int(message.header.frame_id)
        if number:
            stamp = message.header.stamp
            late[name].append(round((now - stamp.sec * NANO - stamp.nanosec) * 1e-6, 4))

    for name, payload in job["payloads"].items():
        kind, profile = _KINDS[payload["kind"]]
        node.create_subscription(kind, name, partial(heard, name), profile)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    print("listening", flush=True)
    while not ended:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    return late


def main() -> None:
    """Be the end that the arguments say."""
    role, transport, job = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    follow_parent()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    sys.setswitchinterval(SWITCH_INTERVAL)
    TRANSPORTS[transport]()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node(f"transport_{role}", enable_rosout=False)
    result = speak(node, job) if role == "speak" else listen(node, job, ended)
    node.destroy_node()
    rclpy.shutdown()
    print(json.dumps(result))


if __name__ == "__main__":
    main()

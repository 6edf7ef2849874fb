"""The transport of who must be on time: no shared memory, whichever discovery range the user has chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wm_vla_ros.ros.transport import wait_for_no_listener

# The middleware names its threads by transport and port.
_THREADS = """
import os, rclpy
{before}
rclpy.init()
node = rclpy.create_node("probe")
names = [open(f"/proc/self/task/{{task}}/comm").read().strip() for task in os.listdir("/proc/self/task")]
print(*sorted(name for name in names if name.startswith("dds.")), sep="\\n")
"""
_ALONE = "from wm_vla_ros.ros.transport import wait_for_no_listener; wait_for_no_listener()"


def middleware_threads(before: str) -> list[str]:
    environment = {
        **os.environ,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
    }
    script = _THREADS.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.graph
def test_on_this_machine_alone_no_shared_memory_is_opened():
    ordinary = middleware_threads("")
    assert any(name.startswith("dds.shm") for name in ordinary), ordinary
    alone = middleware_threads(_ALONE)
    assert any(name.startswith("dds.udp") for name in alone), alone
    assert not any(name.startswith("dds.shm") for name in alone), alone


@pytest.mark.parametrize("chosen", ["LOCALHOST", "localhost"])
def test_the_range_of_this_machine_is_kept_by_the_profile(chosen: str):
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": chosen}
    wait_for_no_listener(environment)
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("fastdds_udp_localhost.xml")


@pytest.mark.parametrize("chosen", [{}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}])
def test_another_range_is_left_as_the_user_chose_it(chosen: dict[str, str]):
    environment = {**chosen, "FASTRTPS_DEFAULT_PROFILES_FILE": "fastdds.xml"}
    wait_for_no_listener(environment)
    assert environment.pop("FASTRTPS_DEFAULT_PROFILES_FILE").endswith("fastdds_udp.xml")
    assert environment == chosen

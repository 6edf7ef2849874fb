"""Which middleware transport a process uses, where it must not be the stack's."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from wm_vla_ros import paths

PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"


def wait_for_no_listener(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have this process speak UDP alone. Call before rclpy.init.

    Over shared memory a listener that is stopped, or merely not scheduled, while it holds its port's lock
    holds up whoever writes to it, and a process that joins holds up everybody who finds it
    (docs/adr/0011). For the range LOCALHOST rmw_fastrtps adds shared memory to whatever a profile says; the
    range is then kept by the profile instead.
    """
    local = environment.get(_RANGE, "").upper() == "LOCALHOST"
    name = "fastdds_udp_localhost.xml" if local else "fastdds_udp.xml"
    environment[PROFILES] = str(paths.config_dir() / name)
    if local:
        environment[_RANGE] = "SUBNET"

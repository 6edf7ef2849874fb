"""A node that takes long to let go: a library waits at exit, or its own deactivation does not end."""

from __future__ import annotations

import atexit
import sys
import threading

from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.ros.spin import run
from wm_vla_ros.ros.transport import wait_for_no_listener


def wait_for_ever() -> None:
    threading.Event().wait()


class Lingering(ManagedNode[NodeSettings]):
    def __init__(self) -> None:
        super().__init__("lingering", NodeSettings)

    def deactivate(self) -> None:
        if "deactivating" in sys.argv:
            print("deactivating", flush=True)
            wait_for_ever()


if __name__ == "__main__":
    if "at_exit" in sys.argv:
        atexit.register(wait_for_ever)
    # Over shared memory a farewell may go with the memory that it lies in.
    wait_for_no_listener()
    run(Lingering)

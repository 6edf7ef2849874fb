"""A node that is told to end while its main thread, about to wait, holds the lock of what it waits for."""

from __future__ import annotations

import os
import signal
import threading

from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.ros.spin import run


class Held(threading.Event):
    """Its first wait begins with a SIGINT, whose handler runs under the lock and ends no wait."""

    told = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self.told:
            self.told = True
            with self._cond:
                os.kill(os.getpid(), signal.SIGINT)
        return super().wait(timeout)


class Interrupted(ManagedNode[NodeSettings]):
    def __init__(self) -> None:
        super().__init__("interrupted", NodeSettings)
        self.finished = Held()

    def configure(self) -> None:
        pass

    def activate(self) -> None:
        pass

    def deactivate(self) -> None:
        pass


if __name__ == "__main__":
    run(Interrupted)

"""The simulated stack, running: what the cases on real processes inject into, and judge by.

It is the one that `wm-vla up sim` brings up, under a namespace of its own. Judged is what its driver says it
wrote: the applied actions, which carry each joint target and the time of its write.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from wm_vla_ros.bringup.runner import Command, StackRunner, command_line
from wm_vla_ros.bringup.session import START_TIMEOUT, running
from wm_vla_ros.bringup.stack import DRIVER, stack_kind
from wm_vla_ros.recording import Recording
from wm_vla_ros.robots.spec import load_robot

if TYPE_CHECKING:
    from wm_vla_ros.bringup.client import StackClient

_POLL = 0.005
_MEGABYTE = 1e6


class LiveStack:
    """A running stack's processes by node name, a client of it, and the recording of what it says."""

    def __init__(self, robot: str, runner: StackRunner, client: StackClient) -> None:
        from wm_vla_ros.bringup.recorder import StackRecorder

        self.spec = load_robot(robot)
        self.client = client
        self.runner = runner
        self.recording: Recording = StackRecorder(client, self.spec, plans=True).recording

    def kill(self, node: str) -> float:
        """SIGKILL; returns when, s."""
        os.kill(self.runner.pid(node), signal.SIGKILL)
        return time.monotonic()

    def pause(self, node: str, seconds: float) -> float:
        """SIGSTOP, SIGCONT after `seconds`; returns when it went on, s."""
        pid = self.runner.pid(node)
        os.kill(pid, signal.SIGSTOP)
        try:
            self.wait(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return time.monotonic()

    def replace(self, node: str) -> None:
        """Start a new process in the place of one that was killed, and wait until it is active."""
        self.runner.restart(node)
        self.client.wait_until_active([node], START_TIMEOUT, lambda: not self.runner.poll())

    def memory(self, node: str) -> float:
        """Resident memory of a node's process, MB."""
        return float(psutil.Process(self.runner.pid(node)).memory_info().rss) / _MEGABYTE

    def wait(self, seconds: float) -> None:
        """Let the stack run."""
        time.sleep(seconds)

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Whether `condition` came true within `timeout` s."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True


@contextmanager
def live_stack[S: LiveStack](
    kind: type[S], robot: str, log: Callable[[str], None], command: Command = command_line
) -> Iterator[S]:
    """A stack of `robot`, active, as a `kind`. log: takes its lines. command: as in `StackRunner`.

    Raises StackRefused when it does not come up, or a TimeoutError ends the block.
    """
    stack = stack_kind("sim").build(f"faults_{os.getpid()}", robot=robot)
    # A latch of an earlier use of this machine is none of this campaign's.
    nodes = tuple(
        replace(node, parameters={**node.parameters, "keep_latch": False}) if node.name == DRIVER else node
        for node in stack.nodes
    )
    with running(replace(stack, nodes=nodes), log, command) as (runner, client):
        yield kind(robot, runner, client)

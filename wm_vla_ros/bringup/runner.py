"""Runs a stack as child processes on a machine without `ros2 launch`.

Every child is started, signalled and waited for by its own process id; nothing is ever ended by name.
Should the runner itself be killed, the kernel tells the children (`ros.spin.follow_parent`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from wm_vla_ros.bringup.stack import NodeSpec, OnExit, StackSpec, Value
from wm_vla_ros.clock import Clock, MonotonicClock
from wm_vla_ros.processes import PARENT_VARIABLE

# The node refused its parameters or its models; the same number as ros.lifecycle.EXIT_REFUSED.
REFUSED = 3
Command = Callable[[NodeSpec, str], list[str]]
# Seconds that a child gets after each signal before the next stronger one.
GRACE = ((signal.SIGINT, 8.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))
_POLL = 0.05
# A node that dies sooner than this after its start would only die again.
_RESTART_AFTER = 5.0
# The prefix names the node; the time is the reader's.
_LOG_FORMAT = "[{severity}] {message}"


@dataclass(frozen=True, slots=True)
class Ended:
    """A node that ended by itself. code: exit code, negative for a signal."""

    node: NodeSpec
    code: int
    restarted: bool

    @property
    def text(self) -> str:
        """One line for people."""
        if self.code < 0:
            how = f"was killed by {signal.Signals(-self.code).name}"
        elif self.code == REFUSED:
            how = "refused to start, see its last lines"
        else:
            how = f"ended with exit code {self.code}"
        return f"{self.node.name} {how}" + (", started again" if self.restarted else "")


class _Child:
    def __init__(self, node: NodeSpec, process: subprocess.Popen[str], started: float) -> None:
        self.node = node
        self.process = process
        self.started = started


def command_line(node: NodeSpec, namespace: str) -> list[str]:
    """What starts `node`, with its parameters and names as ROS arguments."""
    arguments = ["-r", f"__node:={node.name}", "--params-file", str(node.parameters_file)]
    if namespace:
        arguments += ["-r", f"__ns:=/{namespace}"]
    for name, value in node.parameters.items():
        arguments += ["-p", f"{name}:={_yaml(value)}"]
    for old, new in node.remappings:
        arguments += ["-r", f"{old}:={new}"]
    return [sys.executable, "-m", f"wm_vla_ros.nodes.{node.executable}", "--ros-args", *arguments]


def _yaml(value: Value) -> str:
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)


class StackRunner:
    """Starts a stack's nodes, prefixes their lines, says by name which one died, and ends them all.

    log: takes one line at a time, from several threads. Use as a context manager: leaving it ends every
    child. Start it from a thread that outlives it, since a child follows the thread that started it.
    command: what to execute for a node under a namespace.
    """

    def __init__(
        self,
        stack: StackSpec,
        log: Callable[[str], None],
        clock: Clock | None = None,
        command: Command = command_line,
    ) -> None:
        self.stack = stack
        self._log = log
        self._clock = clock or MonotonicClock()
        self._command = command
        self._children: dict[str, _Child] = {}
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> StackRunner:
        try:
            for node in self.stack.nodes:
                self._start(node)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def pid(self, name: str) -> int:
        """Process id of the running node `name`. Raises ValueError listing the running ones."""
        if name not in self._children:
            raise ValueError(f"no running node {name!r}; running: {', '.join(self._children) or 'none'}")
        return self._children[name].process.pid

    def pids(self) -> dict[str, int]:
        """Process ids of the running nodes, by name."""
        return {name: child.process.pid for name, child in self._children.items()}

    def poll(self) -> list[Ended]:
        """The nodes that ended since the last call. Each is logged; those to be restarted are."""
        ended = []
        for name, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[name]
            young = self._clock.now() - child.started < _RESTART_AFTER
            again = child.node.on_exit is OnExit.RESTART and code != REFUSED and not young
            ended.append(Ended(child.node, code, again))
            self._log(f"[{self.stack.name}] {ended[-1].text}")
            if again:
                self._start(child.node)
        return ended

    def restart(self, name: str) -> None:
        """Start node `name` anew; one that still runs is killed first."""
        child = self._children.pop(name, None)
        if child is not None:
            child.process.kill()
            child.process.wait()
        self._start(next(node for node in self.stack.nodes if node.name == name))

    def run(self, stopped: Callable[[], object]) -> int:
        """Watch until `stopped`, or the stack cannot go on. Returns the exit code: 0 if no node failed."""
        failed = False
        while not stopped():
            for ended in self.poll():
                failed = failed or not ended.restarted
                if ended.code == REFUSED or ended.node.on_exit is OnExit.STOP:
                    self._log(f"[{self.stack.name}] cannot go on without {ended.node.name}, ending the stack")
                    return 1
            if not self._children:
                return 1
            # Last, so that `stopped` is asked before the nodes: who is told to end together with them,
            # as by a service manager, has not lost them.
            self._clock.sleep_until(self._clock.now() + _POLL)
        return 1 if failed else 0

    def stop(self) -> None:
        """End every child: SIGINT, then SIGTERM, then SIGKILL to those that are left. Idempotent."""
        for number, patience in GRACE:
            for child in self._children.values():
                child.process.send_signal(number)
            deadline = self._clock.now() + patience
            while self._children and self._clock.now() < deadline:
                self._reap(number)
                self._clock.sleep_until(min(deadline, self._clock.now() + _POLL))
        for reader in self._readers:
            reader.join(timeout=1.0)

    def _reap(self, number: signal.Signals) -> None:
        for name, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[name]
            if number is not signal.SIGINT:
                self._log(f"[{self.stack.name}] {name} had to be ended with {number.name}")
            elif code not in (0, -signal.SIGINT):
                self._log(f"[{self.stack.name}] {Ended(child.node, code, restarted=False).text}")

    def _start(self, node: NodeSpec) -> None:
        environment = {
            **os.environ,
            "RCUTILS_COLORIZED_OUTPUT": "0",
            "RCUTILS_CONSOLE_OUTPUT_FORMAT": _LOG_FORMAT,
            "PYTHONUNBUFFERED": "1",
            **node.environment,
            PARENT_VARIABLE: str(os.getpid()),
        }
        process = subprocess.Popen(
            self._command(node, self.stack.namespace),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Its own group: a Ctrl-C at the terminal reaches the runner alone, which ends them in order.
            # Not its own session: where the kernel schedules by sessions, a node would wait for seconds.
            process_group=0,
        )
        self._children[node.name] = _Child(node, process, self._clock.now())
        reader = threading.Thread(target=self._forward, args=(node.name, process), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _forward(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._log(f"[{name}] {line.rstrip()}")

"""A domain of its own for every test, and `wm-vla up` as a process that is watched line by line."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

PATIENCE = 150.0
_DOMAINS = itertools.count(os.getpid())


@pytest.fixture
def domain(monkeypatch, tmp_path):
    """Environment for real nodes: nobody else's traffic, nobody else's latched e-stop."""
    number = 1 + next(_DOMAINS) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return number


class Up:
    """`wm-vla up sim ...` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wm_vla_ros.cli", "up", "sim", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, text: str, timeout: float = PATIENCE) -> str:
        """The first line that contains `text`, once it is there."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._news:
            self._news.wait_for(lambda: found() or not self._reader.is_alive(), timeout)
        line = found()
        assert line, f"{text!r} did not come; got {self.lines[-20:]}"
        return line

    def wait_until_active(self, *names: str) -> None:
        for name in names:
            self.wait_for(f"[{name}] [INFO] active")

    def nodes(self) -> dict[str, psutil.Process]:
        """The running node processes by name."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            module = next((part for part in child.cmdline() if part.startswith("wm_vla_ros.nodes.")), None)
            if module:
                found[module.rpartition(".")[2]] = child
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal to the runner alone, as a terminal or a supervisor does; returns the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout=60.0)
        except subprocess.TimeoutExpired:
            # Where each of its threads is comes out among its lines.
            self.process.send_signal(signal.SIGABRT)
            self._reader.join(5.0)
            last = "\n".join(self.lines[-80:])
            pytest.fail(f"the runner did not end on {number.name} in 60 s:\n{last}")


@pytest.fixture
def up(domain):
    """Start stacks; whatever the test leaves behind of its own is ended."""
    started: list[tuple[Up, list[psutil.Process]]] = []

    def start(*arguments: str) -> Up:
        made = Up(*arguments)
        started.append((made, []))
        return made

    yield start
    for made, _ in started:
        left = list(made.nodes().values()) if made.process.poll() is None else []
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        for process in left:
            if process.is_running():
                process.kill()

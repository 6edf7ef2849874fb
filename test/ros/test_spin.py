"""A node's process, from its start to the signal that ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy

STAND_INS = Path(__file__).parent / "stand_ins"
ENVIRONMENT = {"ROS_DOMAIN_ID": "87", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def test_a_signal_in_the_moment_before_the_wait_ends_the_node():
    """Its handler set the event that the main thread was about to wait for: deadlock, or a signal unseen."""
    own = os.environ | ENVIRONMENT
    command = [sys.executable, str(STAND_INS / "interrupted.py")]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def lingering(where: str) -> Iterator[subprocess.Popen[str]]:
    own = os.environ | ENVIRONMENT
    command = [sys.executable, str(STAND_INS / "lingering.py"), where]
    process = subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    patience = threading.Timer(60.0, process.kill)
    patience.start()
    try:
        next(line for line in process.stdout if "active" in line)
        yield process
    finally:
        patience.cancel()
        process.kill()
        process.wait()


def test_a_library_that_waits_at_exit_does_not_hold_up_a_node_that_has_ended():
    with lingering("at_exit") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30.0) == 0


def test_the_others_see_a_node_leave_when_it_ends(monkeypatch):
    """Not after its lease of 20 s."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    pause = threading.Event()

    def comes_true(there: bool) -> bool:
        return any(("lingering" in watcher.get_node_names()) is there or pause.wait(0.02) for _ in range(500))

    context = rclpy.Context()
    rclpy.init(context=context)
    watcher = rclpy.create_node("watcher", context=context)
    try:
        with lingering("not") as process:
            assert comes_true(True)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30.0) == 0
            assert comes_true(False)
    finally:
        watcher.destroy_node()
        rclpy.shutdown(context=context)


def test_told_a_second_time_a_node_says_what_holds_it_up():
    with lingering("deactivating") as process:
        process.send_signal(signal.SIGINT)
        next(line for line in process.stdout if "deactivating" in line)
        process.send_signal(signal.SIGTERM)
        assert next(line for line in process.stdout if "in deactivate" in line)

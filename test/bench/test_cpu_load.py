"""Hogs burn while they are wanted, and none outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from wm_vla_ros.bench.cpu_load import hogs

PATIENCE = 20.0
_BENCH = """
import time
from wm_vla_ros.bench.cpu_load import hogs
with hogs(2) as pids:
    print(*pids, flush=True)
    time.sleep(60)
"""


def test_they_burn_at_default_priority_and_end_with_the_block() -> None:
    with hogs(1) as pids:
        process = psutil.Process(pids[0])
        assert (os.sched_getscheduler(pids[0]), process.nice()) == (os.SCHED_OTHER, psutil.Process().nice())
        assert process.status() == psutil.STATUS_RUNNING
    assert not psutil.pid_exists(pids[0])


def test_they_end_when_the_block_fails() -> None:
    started: list[int] = []

    def fail() -> None:
        with hogs(1) as pids:
            started.extend(pids)
            raise RuntimeError("the stack did not come up")

    with pytest.raises(RuntimeError, match="did not come up"):
        fail()
    assert not psutil.pid_exists(started[0])


def test_no_hogs_is_nothing_at_all() -> None:
    with hogs(0) as pids:
        assert pids == ()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_when_the_bench_is_killed(number: signal.Signals) -> None:
    bench = subprocess.Popen([sys.executable, "-c", _BENCH], stdout=subprocess.PIPE, text=True)
    assert bench.stdout is not None
    burning = [psutil.Process(int(pid)) for pid in bench.stdout.readline().split()]
    assert len(burning) == 2
    bench.send_signal(number)
    bench.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(burning, timeout=PATIENCE)
    assert alive == []

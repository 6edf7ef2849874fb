"""A core's standstill is told from a watcher that was ready and had to wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from wm_vla_ros.bench import steal_monitor
from wm_vla_ros.bench.steal_monitor import PERIOD, STALL, watch
from wm_vla_ros.scheduling import fifo_permitted

CORE = max(os.sched_getaffinity(0))
LONG = 0.1


@contextmanager
def seen():
    """The process of a watcher, and what it has seen once the block is left."""
    command = [sys.executable, "-m", "wm_vla_ros.bench.steal_monitor", str(CORE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found: dict = {}
    try:
        assert process.stdout.readline() == "watching\n"
        yield process, found
        process.terminate()
        found |= json.loads(process.communicate(timeout=20.0)[0])
    finally:
        process.kill()
        process.wait()


def test_being_stopped_is_a_standstill():
    """A stopped process is not ready to run, like one whose timer does not come."""
    with seen() as (process, found):
        process.send_signal(signal.SIGSTOP)
        threading.Event().wait(LONG)
        process.send_signal(signal.SIGCONT)
    assert any(end - begin > 0.9 * LONG for begin, end in found["stalls"])
    assert max(found["late_ms"]) > 900 * LONG


@pytest.mark.skipif(not fifo_permitted(), reason="needs SCHED_FIFO")
def test_waiting_for_a_turn_is_none():
    """A thread of higher priority keeps the core: the watcher is as late, and the machine stands nowhere."""
    burn = f"import os, time; os.sched_setaffinity(0, {{{CORE}}})\n"
    burn += "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(60)); end = time.monotonic() + 0.1\n"
    burn += "while time.monotonic() < end: pass"
    with seen() as (_, found):
        subprocess.run([sys.executable, "-c", burn], check=True, timeout=20.0)
    assert max(found["late_ms"]) > 500 * LONG
    assert not [span for span in found["stalls"] if span[1] - span[0] > 0.5 * LONG]


def test_only_lateness_that_was_not_waited_for_counts(monkeypatch):
    """An injected clock: twice as late as a standstill, once idle, once ready to run."""
    now, awaited, ended = [0.0], [0.0], []
    steps = [(0.0, 0.0), (2 * STALL, 0.0), (0.0, 0.0), (2 * STALL, 2 * STALL)]

    def sleep(seconds: float) -> None:
        late, waiting = steps.pop(0)
        now[0] += seconds + late
        awaited[0] += waiting
        if not steps:
            ended.append(15)

    monkeypatch.setattr(steal_monitor, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(steal_monitor, "turn_awaited", lambda: awaited[0])
    late: list[float] = []
    stalls: list[tuple[float, float]] = []
    watch(ended, late, stalls)
    assert late == pytest.approx([0.0, 2e3 * STALL, 0.0, 2e3 * STALL])
    assert stalls == [pytest.approx((2 * PERIOD, 2 * PERIOD + 2 * STALL))]


def test_a_kernel_that_does_not_count_is_told_before_anything_is_watched(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(steal_monitor, "_SCHEDSTAT", tmp_path / "schedstat")
    with pytest.raises(SystemExit, match="CONFIG_SCHED_INFO"):
        steal_monitor.main()
    assert "watching" not in capsys.readouterr().out

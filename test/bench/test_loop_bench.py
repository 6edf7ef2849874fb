"""The benchmark and the demo as they are called: what they print and write, on the real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

pytestmark = [pytest.mark.graph, pytest.mark.slow, pytest.mark.timeout(600)]


def wm_vla(*arguments: str, cwd) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, "-m", "wm_vla_ros.cli", *arguments, "--json"],
        cwd=cwd,
        env={**os.environ, "XDG_STATE_HOME": str(cwd / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip(), done.stderr[-3000:]
    report = json.loads(done.stdout)
    return done.returncode, {figure["name"]: figure for figure in report["figures"]}


def test_the_benchmark_reports_every_figure_that_it_promises(tmp_path):
    code, figures = wm_vla("bench", "loop", "--seconds", "8", "--plot", "loop.png", cwd=tmp_path)
    assert code == 0
    for name in (
        "loop.rate_hz",
        "loop.late_ratio",
        "loop.missed_actions",
        "plan.p50_ms",
        "plan.p99_ms",
        "rss.fast_mb",
        "rss.stack_mb",
        "driver.rate_hz",
        "baseline.idle_timer_p99_ms",
        "baseline.busy_core_p99_ms",
    ):
        assert figures[name]["value"] is not None, name
    assert figures["loop.rate_hz"]["value"] == pytest.approx(50.0, abs=5.0)
    assert figures["loop.missed_actions"]["n"] > 50
    assert 0.3 < figures["loop.busy_ratio"]["value"] <= 1.0
    assert figures["rss.fast_mb"]["value"] <= 350
    assert figures["rss.stack_mb"]["value"] <= 4000
    assert (tmp_path / "loop.png").stat().st_size > 10_000


def test_another_condition_says_so_in_every_name_and_leaves_no_hog(tmp_path):
    """Rate, hogs and scheduling reach the nodes: the loop really runs at 100 Hz."""
    chosen = ("--rates", "100", "--hogs", "1", "--scheduling", "other")
    _, figures = wm_vla("bench", "loop", "--seconds", "8", *chosen, cwd=tmp_path)
    assert all(name.endswith(".100hz.hogs1.other") for name in figures), list(figures)
    ticks = figures["loop.rate_hz.100hz.hogs1.other"]["n"]
    ticks += figures["loop.missed_ticks.100hz.hogs1.other"]["value"]
    assert 600 < ticks < 1200
    burning = [process for process in psutil.process_iter(["cmdline"]) if _is_hog(process)]
    assert burning == []


def _is_hog(process: psutil.Process) -> bool:
    return any(word == "wm_vla_ros.bench.cpu_load" for word in process.info["cmdline"] or ())


def test_the_demos_exit_code_is_its_verdict_and_its_film_is_there(tmp_path):
    code, figures = wm_vla("demo", cwd=tmp_path)
    passed = figures["demo.rate_held"]["value"] and figures["demo.successes"]["value"] >= 2
    assert code == (0 if passed else 1)
    assert figures["demo.successes"]["value"] >= 1
    assert figures["demo.frames"]["value"] > 50
    for name in ("demo.mp4", "loop.png", "stack.log"):
        assert (tmp_path / "outputs/demo" / name).stat().st_size > 100

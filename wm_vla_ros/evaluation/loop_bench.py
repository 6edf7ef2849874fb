"""`wm-vla bench loop`: does the fast loop keep its 50 Hz while the slow one is busy?

The real stack, as processes, with an instruction always under way. The machine's own jitter is measured in
the same run: before the stack starts, and beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from wm_vla_ros.bringup.session import running
from wm_vla_ros.bringup.stack import FAST, StackSpec
from wm_vla_ros.clock import Clock, MonotonicClock
from wm_vla_ros.evaluation.recording import LATE_SHARE, Recording, Span, loop_figures
from wm_vla_ros.report import Figure
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.tasks import INSTRUCTIONS

if TYPE_CHECKING:
    from wm_vla_ros.bringup.runner import StackRunner
    from wm_vla_ros.ros.client import StackClient

BASELINE_SECONDS = 10.0
# The scene is made anew after this many instructions, before the cubes are out of reach.
_SCENE_LASTS = 6
_SETTLE = 0.7
_MEGABYTE = 1e6


@dataclass(slots=True)
class Bench:
    """What a run gave. span: the measured time. memory: node -> highest resident set, MB."""

    recording: Recording
    span: Span
    instructions: list[Span]
    outcomes: dict[str, int]
    memory: dict[str, float]
    died: list[str]
    figures: tuple[Figure, ...]


def run_bench(
    stack: StackSpec,
    spec: RobotSpec,
    seconds: float,
    log: Callable[[str], None],
    progress: Callable[[float], None] = lambda done: None,
    clock: Clock | None = None,
) -> Bench:
    """Measure for `seconds`. Raises StackRefused when the stack does not come up."""
    clock = clock or MonotonicClock()
    idle = _baseline("idle")
    with running(stack, log) as (runner, client):
        from wm_vla_ros.ros.recorder import Recorder

        recorder = Recorder(client, spec, world=False)
        busy: list[Figure] = []
        beside = threading.Thread(target=lambda: busy.extend(_baseline("busy")))
        instructions: list[Span] = []
        outcomes: dict[str, int] = {}
        memory: dict[str, float] = {}
        died: list[str] = []
        beside.start()
        span = _keep_busy(client, runner, seconds, clock, progress, instructions, outcomes, memory, died)
        beside.join()
    recording = recorder.recording
    loop = loop_figures(recording, span, instructions, spec.dt)
    followed = sum(item.end - item.start for item in instructions) / (span.end - span.start)
    figures = (
        *loop,
        Figure("loop.busy_ratio", followed, "", len(instructions)),
        Figure("rss.fast_mb", memory.get(FAST, float("nan")), "MB"),
        Figure("rss.stack_mb", sum(memory.values()), "MB", len(memory)),
        *idle,
        *busy,
    )
    return Bench(recording, span, instructions, outcomes, memory, died, figures)


def _keep_busy(
    client: StackClient,
    runner: StackRunner,
    seconds: float,
    clock: Clock,
    progress: Callable[[float], None],
    instructions: list[Span],
    outcomes: dict[str, int],
    memory: dict[str, float],
    died: list[str],
) -> Span:
    """Give instruction after instruction for `seconds`, and watch memory and deaths meanwhile."""
    texts = cycle(INSTRUCTIONS)
    client.reset_scene(0)
    clock.sleep_until(clock.now() + _SETTLE)
    begin = clock.now()
    while clock.now() - begin < seconds:
        if instructions and len(instructions) % _SCENE_LASTS == 0:
            client.reset_scene(len(instructions))
            clock.sleep_until(clock.now() + _SETTLE)
        start = clock.now()
        execution = client.execute(next(texts))
        while not execution.done and clock.now() - begin < seconds:
            clock.sleep_until(clock.now() + 0.05)
            died += [ended.text for ended in runner.poll()]
            _note_memory(runner, memory)
            progress(clock.now() - begin)
        end = clock.now()
        instructions.append(Span(start, end))
        if not execution.done:
            execution.cancel()
            break
        outcome = execution.result(0.0).outcome
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return Span(begin, clock.now())


def _note_memory(runner: StackRunner, memory: dict[str, float]) -> None:
    import psutil

    for name, pid in runner.pids().items():
        try:
            resident = psutil.Process(pid).memory_info().rss / _MEGABYTE
        except psutil.NoSuchProcess:
            continue
        memory[name] = max(memory.get(name, 0.0), resident)


def _baseline(name: str) -> list[Figure]:
    """Lateness of loops that do nothing, on this machine, now."""
    command = [sys.executable, "-m", "wm_vla_ros.ros.timer_baseline", str(BASELINE_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    figures = []
    for kind in ("timer", "thread"):
        late = np.array(measured[f"{kind}_ms"])
        share = float(np.mean(late > LATE_SHARE * 20.0))
        figures += [
            Figure(f"baseline.{name}_{kind}_p99_ms", float(np.percentile(late, 99)), "ms", len(late)),
            Figure(f"baseline.{name}_{kind}_late_ratio", share, "", len(late)),
        ]
    return figures

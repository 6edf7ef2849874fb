"""`wm-vla bench loop`: does the fast loop keep its rate while the slow one, and others, are busy?

The real stack, as processes, with an instruction always under way. The machine's own jitter is measured in
the same run, before the stack starts and beside it all the time (`evaluation.machine_noise`). CPU hogs, where
there are any, burn while it is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

import psutil

from wm_vla_ros.bench.cpu_load import hogs
from wm_vla_ros.bench.machine_noise import machine_watched
from wm_vla_ros.bringup.session import running
from wm_vla_ros.bringup.stack import FAST, StackSpec
from wm_vla_ros.clock import Clock, MonotonicClock
from wm_vla_ros.recording import (
    Recording,
    TimeSpan,
    between,
    loop_figures,
    tick_lateness,
    wait_for_the_end,
)
from wm_vla_ros.report import Figure
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import INSTRUCTIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.bringup.runner import StackRunner

BASELINE_SECONDS = 10.0
# The scene is made anew after this many instructions, before the cubes are out of reach.
_SCENE_LASTS = 6
_SETTLE = 0.7
_LOOK = 0.1
_MEGABYTE = 1e6


@dataclass(slots=True)
class Bench:
    """What a run gave, filled as it goes.

    span: the measured time. instructions: when each was followed. memory: node -> highest resident set, MB.
    stalls: when a core of the machine ran nothing at all.
    """

    recording: Recording
    span: TimeSpan = field(default_factory=lambda: TimeSpan(0.0, 0.0))
    instructions: list[TimeSpan] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    died: list[str] = field(default_factory=list)
    baseline: list[Figure] = field(default_factory=list)
    stalls: list[TimeSpan] = field(default_factory=list)


def run_bench(
    stack: StackSpec,
    spec: RobotSpec,
    seconds: float,
    log: Callable[[str], None],
    progress: Callable[[float], None] = lambda done: None,
    clock: Clock | None = None,
    hog_count: int = 0,
) -> Bench:
    """Measure for `seconds`, beside `hog_count` hogs. Raises StackRefused when the stack does not come up."""
    clock = clock or MonotonicClock()
    with machine_watched() as idle:
        clock.sleep_until(clock.now() + BASELINE_SECONDS)
    with running(stack, log) as (runner, client):
        from wm_vla_ros.bringup.recorder import StackRecorder

        bench = Bench(StackRecorder(client, spec).recording)
        with hogs(hog_count), machine_watched() as busy:
            _keep_busy(bench, client, runner, seconds, clock, progress)
        wait_for_the_end(bench.recording, bench.span.end, clock)
    bench.baseline = idle.figures("idle") + busy.figures("busy")
    bench.stalls = busy.stalls
    return bench


def bench_figures(bench: Bench, dt: float, period: float | None = None) -> tuple[Figure, ...]:
    """The figures of a run. dt, period: as of `loop_figures`. Raises ValueError as that does."""
    followed = sum(item.end - item.start for item in bench.instructions)
    whole = bench.span.end - bench.span.start
    return (
        *loop_figures(bench.recording, bench.span, bench.instructions, dt, bench.stalls, period),
        Figure("loop.busy_ratio", followed / whole, "", len(bench.instructions)),
        Figure("rss.fast_mb", bench.memory.get(FAST, float("nan")), "MB"),
        Figure("rss.stack_mb", sum(bench.memory.values()), "MB", len(bench.memory)),
        *bench.baseline,
    )


def bench_lateness(bench: Bench, period: float) -> NDArray[np.float64]:
    """ms (n,) that each tick of a run was late. period: of the fast loop, s."""
    return tick_lateness(between(bench.recording.stats, bench.span.start, bench.span.end), period)


def _keep_busy(
    bench: Bench,
    client: StackClient,
    runner: StackRunner,
    seconds: float,
    clock: Clock,
    progress: Callable[[float], None],
) -> None:
    """Give instruction after instruction for `seconds`, and watch memory and deaths meanwhile."""
    client.reset_scene(0)
    clock.sleep_until(clock.now() + _SETTLE)
    begin = clock.now()
    for count, instruction in enumerate(cycle(INSTRUCTIONS)):
        if count and count % _SCENE_LASTS == 0:
            client.reset_scene(count)
            clock.sleep_until(clock.now() + _SETTLE)
        execution = client.execute(instruction)
        while not execution.done and clock.now() - begin < seconds:
            clock.sleep_until(clock.now() + _LOOK)
            bench.died += [ended.text for ended in runner.poll()]
            _note_memory(runner, bench.memory)
            progress(min(seconds, clock.now() - begin))
        followed = execution.followed(until=clock.now())
        if followed is not None:
            bench.instructions.append(followed)
        if not execution.done:
            execution.cancel()
            break
        outcome = execution.result(0.0).outcome
        bench.outcomes[outcome] = bench.outcomes.get(outcome, 0) + 1
    bench.span = TimeSpan(begin, clock.now())


def _note_memory(runner: StackRunner, memory: dict[str, float]) -> None:
    for name, pid in runner.pids().items():
        try:
            resident = psutil.Process(pid).memory_info().rss / _MEGABYTE
        except psutil.NoSuchProcess:
            continue
        memory[name] = max(memory.get(name, 0.0), resident)

"""`wm-vla bench loop`, `transport` and `policy`: processes as they run, on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wm_vla_ros.bringup.options import with_stack_options
from wm_vla_ros.bringup.stack import stack_kind
from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults

if TYPE_CHECKING:
    from wm_vla_ros.bench.loop_bench import Bench
    from wm_vla_ros.bench.loop_conditions import LoopCondition

KIND = stack_kind("sim")


def loop(
    seconds: Annotated[
        float, typer.Option(min=5.0, max=86400.0, help="Measured for, each condition.")
    ] = 180.0,
    rates: Annotated[
        str, typer.Option(help='Plans per second, "50,100,200". Default: the robot\'s control rate.')
    ] = "",
    hogs: Annotated[str, typer.Option(help='CPU hogs beside the stack, "0,1,2".')] = "0",
    scheduling: Annotated[str, typer.Option(help='"fifo,other": with SCHED_FIFO, without.')] = "fifo",
    plot: Annotated[
        Path | None,
        typer.Option(help="Write a PNG here: the loop's statistics, or the lateness of several conditions."),
    ] = None,
    log: Annotated[Path, typer.Option(help="Where the nodes' lines go.")] = Path("outputs/bench/stack.log"),
    json: JsonFlag = False,
    **chosen: Any,
) -> None:
    """Bring the stack up, keep the slow loop busy, and measure how well the fast one keeps its 50 Hz.

    late_ratio: ticks that began more than a fifth of a period late, or were left out. missed_actions:
    driver ticks without an action of a plan while an instruction was followed. Exit code 1 when a node died.

    Several rates, hogs or schedulings: every combination, one after another. Its figures end in ".100hz",
    ".hogs2" and ".other", in this order and each only where it is not the default.
    """
    from wm_vla_ros.bench.loop_bench import bench_figures, run_bench
    from wm_vla_ros.bench.loop_conditions import parse_conditions, renamed
    from wm_vla_ros.bringup.session import keep_to_ourselves
    from wm_vla_ros.progress import bar
    from wm_vla_ros.report import Figure, Report, conditions, emit
    from wm_vla_ros.robots.spec import load_robot

    keep_to_ourselves()
    spec = load_robot(chosen.get("robot") or defaults().robot)
    runs = parse_conditions(rates, hogs, scheduling, spec.dt)
    log.parent.mkdir(parents=True, exist_ok=True)
    before = conditions()
    benches: dict[LoopCondition, Bench] = {}
    figures: list[Figure] = []
    with log.open("w", buffering=1) as lines, bar("fast loop, s", seconds * len(runs)) as progress:
        for number, run in enumerate(runs):
            bench = benches[run] = run_bench(
                KIND.build(**chosen, **run.choices()),
                spec,
                seconds,
                lambda line: print(line, file=lines),
                lambda done, base=number * seconds: progress(base + done),  # type: ignore[misc]
                hog_count=run.hogs,
            )
            own = bench_figures(bench, spec.dt, 1.0 / run.rate)
            figures += renamed(own, run.suffix(round(1.0 / spec.dt)))
    if plot is not None:
        _plot_benches(plot, benches)
    where = {run.name: _facts(bench) for run, bench in benches.items()}
    facts = {"runs": where} if len(runs) > 1 else next(iter(where.values()))
    emit(Report("bench loop", {**facts, **before}, tuple(figures)), json)
    if any(bench.died for bench in benches.values()):
        sys.exit(1)


def _facts(bench: Bench) -> dict[str, Any]:
    """What a run's figures depend on."""
    return {
        "seconds": bench.span.end - bench.span.start,
        "outcomes": bench.outcomes,
        "rss_mb": {name: round(value, 1) for name, value in bench.memory.items()},
        "died": bench.died,
    }


def _plot_benches(path: Path, benches: Mapping[LoopCondition, Bench]) -> None:
    """The statistics of one run over time, or the lateness of several side by side."""
    from wm_vla_ros.bench.lateness_plot import plot_lateness
    from wm_vla_ros.bench.loop_bench import bench_lateness
    from wm_vla_ros.demo.loop_plot import plot_loop

    path.parent.mkdir(parents=True, exist_ok=True)
    if len(benches) == 1:
        bench = next(iter(benches.values()))
        plot_loop(path, bench.recording, bench.span, [("", item) for item in bench.instructions])
    else:
        plot_lateness(path, {run: bench_lateness(bench, 1.0 / run.rate) for run, bench in benches.items()})


loop_with_stack = with_stack_options(
    loop, KIND, without=("speed", "use_sim_time", "layout_for", "rate", "realtime")
)


def transport(
    seconds: Annotated[
        float, typer.Option(min=1.0, max=3600.0, help="How long each payload is sent over each transport.")
    ] = 10.0,
    transports: Annotated[
        str, typer.Option(help='"shm": config/fastdds.xml, "udp": the driver\'s; "none" is always measured.')
    ] = "shm,udp",
    sizes: Annotated[str, typer.Option(help="Images, WIDTHxHEIGHT.")] = "96x96,224x224,640x480",
    json: JsonFlag = False,
) -> None:
    """How long an image and a latent goal take between two processes, with and without a Fast DDS profile.

    transport.<payload>.<transport>.p50_ms, .p99_ms, .lost: 30 messages a second, one payload at a time, at
    default scheduling; goals are as large as those of the shipped models.
    """
    from wm_vla_ros.bench.transport_bench import (
        RATE,
        parse_sizes,
        parse_transports,
        payloads,
        run_transports,
        shipped_goal,
    )
    from wm_vla_ros.bringup.session import keep_to_ourselves
    from wm_vla_ros.progress import bar
    from wm_vla_ros.report import Report, conditions, emit

    keep_to_ourselves()
    names = parse_transports(transports)
    chosen = payloads(parse_sizes(sizes), *shipped_goal(defaults().world_model, defaults().policy))
    where = {
        "rate_hz": RATE,
        "seconds": seconds,
        "goal_shape": chosen["goal"]["shape"],
        "discovery_range": os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"],
        **conditions(),
    }
    with bar("transports", len(names)) as progress:
        figures = run_transports(names, chosen, seconds, progress)
    emit(Report("bench transport", where, figures), json)


def slow_policy(
    policy: Annotated[
        str | None, typer.Option(help="A name in models/, a folder, or a hub id; default the shipped one.")
    ] = None,
    smolvla: Annotated[
        bool, typer.Option(help="SmolVLA's class at full size with random weights (4 GB) as well.")
    ] = False,
    instruction: Annotated[str, typer.Option(help="Given to it.")] = "touch the red cube",
    repeats: Annotated[int, typer.Option(min=2, max=10_000, help="Inferences that are timed.")] = 20,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of torch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    json: JsonFlag = False,
) -> None:
    """How long a slow policy takes for a chunk, beside the shipped one, and what that leaves of its chunk."""
    import tempfile

    from wm_vla_ros.bench.policy_bench import bench_policy
    from wm_vla_ros.progress import bar
    from wm_vla_ros.report import Figure, Report, conditions, emit
    from wm_vla_ros.robots.spec import load_robot
    from wm_vla_ros.vla.policy import SlowPolicy

    spec, shipped, before = load_robot(defaults().robot), defaults().policy, conditions()
    with tempfile.TemporaryDirectory() as folder:
        chosen = {"baseline": shipped} | ({"policy": policy} if policy not in (None, shipped) else {})
        if smolvla:
            from wm_vla_ros.vla.random_smolvla import FULL, write_random_smolvla

            chosen["smolvla"] = str(write_random_smolvla(Path(folder), FULL, spec, ("front", "wrist")))
        figures: list[Figure] = []
        for name, source in chosen.items():
            loaded = SlowPolicy(source, threads=threads, device=device, robot=spec)
            with bar(f"{name}: inferences", repeats) as progress:
                figures += bench_policy(name, loaded, spec, instruction, repeats, progress)
    where = {"policies": chosen, "threads": threads, "device": device, **before}
    emit(Report("bench policy", where, tuple(figures)), json)

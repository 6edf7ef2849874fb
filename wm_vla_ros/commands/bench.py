"""`wm-vla bench`: how fast and how regular the stack is on this machine."""

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
    from wm_vla_ros.evaluation.loop_bench import Bench
    from wm_vla_ros.evaluation.loop_conditions import LoopCondition

app = typer.Typer(help="Measure speed and regularity.", no_args_is_help=True)
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
    from wm_vla_ros.bringup.session import keep_to_ourselves
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.loop_bench import bench_figures, run_bench
    from wm_vla_ros.evaluation.loop_conditions import parse_conditions, renamed
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
    from wm_vla_ros.evaluation.demo_plot import plot_loop
    from wm_vla_ros.evaluation.lateness_plot import plot_lateness
    from wm_vla_ros.evaluation.loop_bench import bench_lateness

    path.parent.mkdir(parents=True, exist_ok=True)
    if len(benches) == 1:
        bench = next(iter(benches.values()))
        plot_loop(path, bench.recording, bench.span, [("", item) for item in bench.instructions])
    else:
        plot_lateness(path, {run: bench_lateness(bench, 1.0 / run.rate) for run, bench in benches.items()})


app.command("loop")(
    with_stack_options(loop, KIND, without=("speed", "use_sim_time", "layout_for", "rate", "realtime"))
)


@app.command()
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
    from wm_vla_ros.bringup.session import keep_to_ourselves
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.transport_bench import (
        RATE,
        parse_sizes,
        parse_transports,
        payloads,
        run_transports,
        shipped_goal,
    )
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


@app.command("policy")
def slow_policy(
    policy: Annotated[
        str | None, typer.Option(help="A name in models/, a folder, or a hub id; default the shipped one.")
    ] = None,
    smolvla: Annotated[
        bool, typer.Option(help="SmolVLA's class at full size with random weights (4 GB) as well.")
    ] = False,
    instruction: Annotated[str, typer.Option(help="What it is told.")] = "touch the red cube",
    repeats: Annotated[int, typer.Option(min=2, max=10_000, help="Thoughts that are timed.")] = 20,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of torch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    json: JsonFlag = False,
) -> None:
    """How long a slow policy thinks, beside the shipped one, and what that leaves of its chunk."""
    import tempfile

    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.policy_bench import bench_policy
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
            with bar(f"{name}: thoughts", repeats) as progress:
                figures += bench_policy(name, loaded, spec, instruction, repeats, progress)
    where = {"policies": chosen, "threads": threads, "device": device, **before}
    emit(Report("bench policy", where, tuple(figures)), json)


@app.command("plan")
def plan(
    budgets: Annotated[
        str, typer.Option(help="Ours: SAMPLER:SAMPLESxITERATIONSxHORIZON, with commas between.")
    ] = (
        "mppi_colored:16x2x6,mppi_colored:24x2x6,mppi_colored:16x3x6,mppi_colored:64x4x4,"
        "mppi_colored:64x2x10,mppi_spline:64x2x10,icem:24x2x6,icem:64x2x10,cem:64x2x10"
    ),
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Episodes of each for the return.")] = 20,
    repeats: Annotated[int, typer.Option(min=20, max=100_000, help="Plans of ours that are timed.")] = 500,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, for the returns.")] = 2,
    png: Annotated[Path | None, typer.Option(help="Write a plot of return over time here.")] = None,
    json: JsonFlag = False,
) -> None:
    """What a plan costs in time, and what it is worth, beside planners as they are published.

    Time: networks of the named sizes with random weights, one thread. Worth: the closed-loop return of the
    same sampler at the same budget on a seven-link arm that follows a moving target, true dynamics.
    """
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.plan_bench.bench import parse_budget, run
    from wm_vla_ros.report import Report, conditions, emit

    chosen = [parse_budget(text) for text in budgets.split(",")]
    before = conditions()
    with bar("planners", 1.0) as progress:
        figures = run(chosen, seeds, repeats, workers, progress)
    if png is not None:
        from wm_vla_ros.evaluation.plan_bench.plot import plot_plans

        png.parent.mkdir(parents=True, exist_ok=True)
        plot_plans(png, figures)
    emit(Report("bench plan", {"threads": 1, "seeds": seeds, **before}, figures), json)


@app.command("delay")
def delay(
    tasks: Annotated[str, typer.Option(help="Comma list of reach, push, moving, drift.")] = (
        "reach,push,moving,drift"
    ),
    observation_tasks: Annotated[
        str, typer.Option(help="Tasks on which delay, jitter and loss of the observations are swept.")
    ] = "reach",
    contestants: Annotated[
        str,
        typer.Option(
            help="Comma list of sync, newest, weighted, ensemble, rtc, rollforward, ours, "
            "ours_no_prediction, ours_no_chunk, ours_no_goal; or all."
        ),
    ] = "all",
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1020",
    latencies: Annotated[str, typer.Option(help="Latencies of the slow policy, ms; or none.")] = (
        "0,100,300,600,1000"
    ),
    delays: Annotated[str, typer.Option(help="Delays of the observations, ms; or none.")] = (
        "0,20,40,60,80,100,120,200"
    ),
    jitters: Annotated[str, typer.Option(help="Jitters of the observations, ms; or none.")] = "0,50,100",
    drops: Annotated[str, typer.Option(help="Frames lost, percent; or none.")] = "0,10,30",
    robot: Annotated[str, typer.Option(help="Robot of config/robots.")] = defaults().robot,
    policy: Annotated[str, typer.Option(help="LeRobot policy: name in models/, folder, or hub id.")] = (
        defaults().policy
    ),
    world_model: Annotated[str, typer.Option(help="World model: name in models/ or folder.")] = (
        defaults().world_model
    ),
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    quick: Annotated[
        bool, typer.Option(help="For CI: three seeds and few cells, whatever else is chosen.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Write the curves here.")] = None,
    json: JsonFlag = False,
) -> None:
    """What the delay of policy and camera costs each way of hiding it: success, task time, smoothness.

    Same policy, seeds and simulator for all, in-process under virtual time. The whole table takes hours;
    how long about is said before it begins.
    """
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.closed_loop import parse_seeds
    from wm_vla_ros.evaluation.delay_bench import DelaySettings, parse_values, run
    from wm_vla_ros.evaluation.delay_controllers import CONTESTANTS
    from wm_vla_ros.evaluation.delay_figures import described, figures
    from wm_vla_ros.evaluation.delay_plot import plot_delay
    from wm_vla_ros.report import Report, emit

    if quick:
        tasks, observation_tasks = "reach,moving,drift", "reach"
        contestants = "sync,rtc,ours,ours_no_prediction"
        seeds, latencies, delays, jitters, drops = "1000:1003", "0,300", "0,60", "none", "none"
    settings = DelaySettings(
        tasks=tuple(tasks.split(",")),
        observation_tasks=tuple(observation_tasks.split(",")),
        contestants=CONTESTANTS if contestants == "all" else tuple(contestants.split(",")),
        seeds=parse_seeds(seeds),
        latencies=parse_values("latencies", latencies, 1e-3),
        delays=parse_values("delays", delays, 1e-3),
        jitters=parse_values("jitters", jitters, 1e-3),
        drops=parse_values("drops", drops, 1e-2),
        robot=robot,
        policy=policy,
        world_model=world_model,
    )

    def begin(episodes: int, seconds: float) -> None:
        print(f"{episodes} episodes, about {seconds / 60:.1f} minutes", file=sys.stderr)

    with bar("delay, share of the episodes", 1.0) as progress:
        results, calibration = run(settings, workers, begin, progress)
    if png is not None:
        plot_delay(png, results)
    emit(Report("bench delay", described(settings, calibration), figures(results)), json)

"""`wm-vla bench`: how fast and how regular the stack is on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wm_vla_ros.bringup.options import with_stack_options
from wm_vla_ros.bringup.stack import stack_kind
from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults

app = typer.Typer(help="Measure speed and regularity.", no_args_is_help=True)
KIND = stack_kind("sim")


def loop(
    seconds: Annotated[float, typer.Option(min=5.0, max=86400.0, help="How long to measure.")] = 180.0,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG of the loop's statistics here.")] = None,
    log: Annotated[Path, typer.Option(help="Where the nodes' lines go.")] = Path("outputs/bench/stack.log"),
    json: JsonFlag = False,
    **chosen: Any,
) -> None:
    """Bring the stack up, keep the slow loop busy, and measure how well the fast one keeps its 50 Hz.

    late_ratio: ticks that began more than a fifth of a period late, or were left out. missed_actions:
    driver ticks without an action of a plan while an instruction was followed. Exit code 1 when a node died.
    """
    from wm_vla_ros.bringup.session import keep_to_ourselves
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.demo_plot import plot_loop
    from wm_vla_ros.evaluation.loop_bench import bench_figures, run_bench
    from wm_vla_ros.report import Report, conditions, emit
    from wm_vla_ros.robots.spec import load_robot

    keep_to_ourselves()
    spec = load_robot(chosen.get("robot") or defaults().robot)
    log.parent.mkdir(parents=True, exist_ok=True)
    before = conditions()
    with log.open("w", buffering=1) as lines, bar("fast loop, s", seconds) as progress:
        bench = run_bench(KIND.build(**chosen), spec, seconds, lambda line: print(line, file=lines), progress)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_loop(plot, bench.recording, bench.span, [("", item) for item in bench.instructions])
    where = {
        "seconds": bench.span.end - bench.span.start,
        "outcomes": bench.outcomes,
        "rss_mb": {name: round(value, 1) for name, value in bench.memory.items()},
        "died": bench.died,
        **before,
    }
    emit(Report("bench loop", where, bench_figures(bench, spec.dt)), json)
    if bench.died:
        sys.exit(1)


app.command("loop")(with_stack_options(loop, KIND, without=("speed", "use_sim_time", "layout_for")))


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

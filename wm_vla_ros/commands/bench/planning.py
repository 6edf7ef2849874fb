"""`wm-vla bench plan` and `wm-vla bench delay`: the planner without its processes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wm_vla_ros.commands import (
    JsonFlag,
    PngOption,
    PolicyOption,
    RobotOption,
    SeedsOption,
    WorkersOption,
    WorldModelOption,
)
from wm_vla_ros.config import defaults

_DEFAULTS = defaults()
_BUDGETS = (
    "mppi_colored:16x2x6,mppi_colored:24x2x6,mppi_colored:16x3x6,mppi_colored:64x4x4,"
    "mppi_colored:64x2x10,mppi_spline:64x2x10,icem:36x2x4,icem:64x2x10,cem:64x2x10"
)
# TD-MPC2's samples and iterations, at the stack's own horizon: what a GPU is for.
_RUNTIME_BUDGET = "mppi_spline:512x6x10"


def plan(
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Ours: SAMPLER:SAMPLESxITERATIONSxHORIZON, with commas between. "
            f"Default: nine of them; with --runtime {_RUNTIME_BUDGET}."
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Time the fast loop's own plans instead, with the world model under this runtime: onnx, "
            "onnx-shards, torch, torch-bf16, onnx-gpu, cuda-graph, cuda-graph-bf16, or auto."
        ),
    ] = None,
    world_model: WorldModelOption = _DEFAULTS.world_model,
    robot: RobotOption = _DEFAULTS.robot,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Episodes of each for the return.")] = 20,
    repeats: Annotated[int, typer.Option(min=20, max=100_000, help="Plans of ours that are timed.")] = 500,
    workers: WorkersOption = 2,
    png: PngOption = None,
    json: JsonFlag = False,
) -> None:
    """What a plan costs in time, and what it is worth, beside planners as they are published.

    Time: networks of the named sizes with random weights, one thread. Worth: the closed-loop return of the
    same sampler at the same budget on a seven-link arm that follows a moving target, true dynamics.

    With --runtime: the fast loop's own planner on this world model and robot, none of its plans cut short; it
    measures no return, so --seeds, --workers and --png are of the other.
    """
    from wm_vla_ros.bench.plan.bench import parse_budget, run
    from wm_vla_ros.progress import bar
    from wm_vla_ros.report import Report, conditions, emit

    texts = budgets or (_BUDGETS if runtime is None else _RUNTIME_BUDGET)
    chosen = [parse_budget(text) for text in texts.split(",")]
    before = conditions()
    if runtime is not None:
        from wm_vla_ros.bench.plan.runtime import run_runtime

        if png is not None:
            raise ValueError("--png shows return over time, and --runtime measures no return")
        with bar("ticks", 1.0) as progress:
            figures = run_runtime(runtime, chosen, repeats, world_model, robot, progress)
        emit(Report("bench plan", {"world_model": world_model, **before}, figures), json)
        return
    with bar("planners", 1.0) as progress:
        figures = run(chosen, seeds, repeats, workers, progress)
    if png is not None:
        from wm_vla_ros.bench.plan.return_plot import plot_plans

        png.parent.mkdir(parents=True, exist_ok=True)
        plot_plans(png, figures)
    emit(Report("bench plan", {"threads": 1, "seeds": seeds, **before}, figures), json)


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
            "ours_no_prediction, ours_no_chunk, ours_no_objects, ours_no_goal; or all."
        ),
    ] = "all",
    seeds: SeedsOption = "1000:1020",
    latencies: Annotated[str, typer.Option(help="Latencies of the slow policy, ms; or none.")] = (
        "0,100,300,600,1000"
    ),
    delays: Annotated[str, typer.Option(help="Delays of the observations, ms; or none.")] = (
        "0,20,40,60,80,100,120,200"
    ),
    jitters: Annotated[str, typer.Option(help="Jitters of the observations, ms; or none.")] = "0,50,100",
    drops: Annotated[str, typer.Option(help="Frames lost, percent; or none.")] = "0,10,30",
    robot: RobotOption = _DEFAULTS.robot,
    policy: PolicyOption = _DEFAULTS.policy,
    world_model: WorldModelOption = _DEFAULTS.world_model,
    workers: WorkersOption = 2,
    quick: Annotated[
        bool, typer.Option(help="For CI: three seeds and few cells, whatever else is chosen.")
    ] = False,
    png: PngOption = None,
    json: JsonFlag = False,
) -> None:
    """What the delay of policy and camera costs each way of hiding it: success, task time, smoothness.

    Same policy, seeds and simulator for all, in-process under virtual time. The whole table takes hours;
    how long about is said before it begins.
    """
    from wm_vla_ros.baselines.delay_bench import DelaySettings, parse_values, run
    from wm_vla_ros.baselines.delay_controllers import CONTESTANTS
    from wm_vla_ros.baselines.delay_figures import described, figures
    from wm_vla_ros.baselines.delay_plot import plot_delay
    from wm_vla_ros.progress import bar
    from wm_vla_ros.report import Report, emit
    from wm_vla_ros.rig.closed_loop import parse_seeds

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

"""`wm-vla eval`: what the trained stack can do, with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults
from wm_vla_ros.report import emit

app = typer.Typer(help="Measure tasks and models.", no_args_is_help=True)


@app.command("tasks")
def tasks(
    task: Annotated[str, typer.Option(help="reach or push.")] = "reach",
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1100",
    robot: Annotated[str, typer.Option(help="Robot of config/robots.")] = defaults().robot,
    policy: Annotated[str, typer.Option(help="LeRobot policy: name in models/, folder, or hub id.")] = (
        defaults().policy
    ),
    world_model: Annotated[str, typer.Option(help="World model: name in models/ or folder.")] = (
        defaults().world_model
    ),
    vla_latency: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Seconds that a thought takes.")
    ] = 0.1,
    observation_delay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Seconds from camera to loop.")
    ] = (0.01),
    drift: Annotated[float, typer.Option(min=0.0, max=0.5, help="Unmodelled drift of the tool, m/s.")] = 0.0,
    controllers: Annotated[str, typer.Option(help="stack, policy_alone, or both with a comma.")] = (
        "stack,policy_alone"
    ),
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    json: JsonFlag = False,
) -> None:
    """Run a task over seeds that no training saw: the deployed cores in-process, under virtual time."""
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.closed_loop import EvalSettings, evaluate, parse_seeds
    from wm_vla_ros.evaluation.rig import RigConditions

    names = tuple(controllers.split(","))
    conditions = RigConditions(vla_latency, observation_delay=observation_delay, drift_speed=drift)
    settings = EvalSettings(task, parse_seeds(seeds), robot, policy, world_model, conditions)
    with bar(f"{task} episodes", len(settings.seeds) * len(names)) as progress:
        report, _ = evaluate(settings, names, workers, progress)
    emit(report, json)


@app.command("imagination")
def imagination(
    world_model: Annotated[str, typer.Option(help="World model: name in models/ or folder.")] = (
        defaults().world_model
    ),
    data: Annotated[
        Path | None, typer.Option(help="Held-out data set; without it, episodes are recorded.")
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=2, max=1000, help="Episodes to record each of reach, push and play.")
    ] = 12,
    windows: Annotated[int, typer.Option(min=10, help="Windows to judge, evenly spread.")] = 2000,
    png: Annotated[Path | None, typer.Option(help="Write a plot here.")] = None,
    json: JsonFlag = False,
) -> None:
    """Imagination error of the world model on held-out episodes: against persistence, by probe, in metres."""
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.evaluation.imagination import evaluate

    with bar("imagination", 1.0) as update:
        report = evaluate(world_model, data, episodes, windows, png, update)
    emit(report, json)

"""`wm-vla data`: record episodes in simulation, and say what a data set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import DemonstrationsOption, JsonFlag, TimesOption, WorldModelOption
from wm_vla_ros.config import defaults
from wm_vla_ros.progress import bar
from wm_vla_ros.report import Figure, Report, conditions, emit, proportion

_DEFAULTS = defaults()
app = typer.Typer(help="Record episodes as a LeRobotDataset, and describe one.", no_args_is_help=True)


@app.command()
def collect(
    episodes: Annotated[int, typer.Option(help="Episodes to record.", min=1)],
    out: Annotated[
        Path | None, typer.Option(help="Folder, not there yet; default data/TASK_POLICY_SEED.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="reach or push; not needed with --policy play or glance.")
    ] = None,
    policy: Annotated[str, typer.Option(help="Who acts: expert, play, glance or dagger.")] = "expert",
    checkpoint: Annotated[
        str | None, typer.Option(help="Trained policy that acts with --policy dagger.")
    ] = None,
    world_model: Annotated[
        str, typer.Option(help="World model that plans with --policy dagger.")
    ] = _DEFAULTS.world_model,
    noise: Annotated[bool, typer.Option(help="Disturb the expert, and record how it recovers.")] = True,
    seed: Annotated[int, typer.Option(help="Number of the series; each has its own scenes.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    robot: Annotated[str, typer.Option(help="Robot name.")] = _DEFAULTS.robot,
    cameras: Annotated[str, typer.Option(help="Cameras to record, separated by commas.")] = "front,wrist",
    size: Annotated[int, typer.Option(help="Width and height of images, pixels.", min=32, max=1024)] = 96,
    json: JsonFlag = False,
) -> None:
    """Record episodes in simulation, faster than real time, as a LeRobotDataset v3."""
    import time

    from wm_vla_ros.rig.collect import CollectOptions
    from wm_vla_ros.rig.collect import collect as record

    out = out or Path("data") / "_".join(word for word in (task, policy, str(seed)) if word)
    options = CollectOptions(
        episodes=episodes,
        policy=policy,
        task=task,
        seed=seed,
        noise=noise,
        checkpoint=checkpoint,
        world_model=world_model,
        robot=robot,
        cameras=tuple(cameras.split(",")),
        width=size,
        height=size,
    )
    started = time.monotonic()
    with bar("recording", episodes) as update:
        result = record(options, out, workers, update)
    seconds = time.monotonic() - started
    spoken = result.rows / 50.0
    figures = [
        Figure("collect.episodes", result.episodes),
        Figure("collect.rows", result.rows),
        Figure("collect.seconds", round(seconds, 1), "s"),
        Figure("collect.speed", round(spoken / seconds, 2), "x real time"),
    ]
    if not options.playing:
        figures.append(proportion("collect.expert_success", result.episodes, result.attempts))
    emit(Report("data collect", {"out": str(out), "workers": workers, **conditions()}, tuple(figures)), json)


@app.command()
def info(
    root: Annotated[Path, typer.Argument(help="Folder of a LeRobotDataset v3.")],
    json: JsonFlag = False,
) -> None:
    """Say what a data set holds: episodes, tasks, features, success, size on disk."""
    from wm_vla_ros.data.describe import describe

    emit(describe(root), json)


@app.command()
def imagine(
    dataset: DemonstrationsOption,
    out: Annotated[Path, typer.Option(help="Folder, not there yet.")],
    world_model: WorldModelOption = _DEFAULTS.world_model,
    times: TimesOption = 10,
    demos: Annotated[
        int | None, typer.Option(help="Recorded demonstrations to use; default: all that succeeded.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Let a world model imagine demonstrations from recorded ones, and write both as one data set of latents.

    Every row of the LeRobotDataset v3 says whether it was imagined, and out of which episodes and rows.
    """
    from wm_vla_ros.lab.augmented_set import make

    with bar("imagining", 1.0) as update:
        report = make(dataset, world_model, out, times, demos, seed, update)
    emit(report, json)

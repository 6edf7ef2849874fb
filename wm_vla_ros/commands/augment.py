"""What imagines demonstrations, and what judges them: `wm-vla data imagine`, `wm-vla eval augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.commands.delivery import HtmlFlag, PngFlag, deliver
from wm_vla_ros.config import defaults
from wm_vla_ros.report import emit

Recording = Annotated[Path, typer.Option("--dataset", help="LeRobotDataset folder with demonstrations.")]
Model = Annotated[str, typer.Option("--world-model", help="World model: name in models/ or folder.")]
_WORLD_MODEL = defaults().world_model
Times = Annotated[int, typer.Option(help="Imagined episodes for each recorded one.")]


def imagine(
    dataset: Recording,
    out: Annotated[Path, typer.Option(help="Folder, not there yet.")],
    world_model: Model = _WORLD_MODEL,
    times: Times = 10,
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
    from wm_vla_ros.progress import bar

    with bar("imagining", 1.0) as update:
        report = make(dataset, world_model, out, times, demos, seed, update)
    emit(report, json)


def augment(
    dataset: Recording,
    world_model: Model = _WORLD_MODEL,
    demos: Annotated[str, typer.Option(help="Comma list: how many recorded demonstrations.")] = "10,30,100",
    times: Times = 10,
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1050",
    steps: Annotated[int, typer.Option(help="Steps of gradient of every policy.")] = 3000,
    draws: Annotated[int, typer.Option(help="Draws of demonstrations; seeds take turns at them.")] = 2,
    sets: Annotated[
        Path | None, typer.Option(help="Keep data sets and policies in this folder, not there yet.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether a policy gains from demonstrations that a world model imagined: success over recorded ones.

    Cloned on the model's latents: from recorded demonstrations, from those with plain noise, and from those
    with imagined ones beside them. All for the same number of steps.
    """
    from tempfile import TemporaryDirectory

    from wm_vla_ros.data.lerobot_writer import refuse_existing
    from wm_vla_ros.lab.augmentation import Augmentation, evaluate, parse_demos
    from wm_vla_ros.progress import bar
    from wm_vla_ros.rig.closed_loop import parse_seeds

    what = Augmentation(dataset, world_model, parse_demos(demos), times, parse_seeds(seeds), steps, draws)
    if sets is not None:
        refuse_existing(sets)
        sets.mkdir(parents=True)
    with TemporaryDirectory() as folder, bar("augmentation", 1.0) as update:
        report, draw = evaluate(what, sets or Path(folder), workers, update)
    deliver(report, draw, png, html, json)

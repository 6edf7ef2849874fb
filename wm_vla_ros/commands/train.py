"""`wm-vla train`: the models that ship in models/, from a recorded dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults
from wm_vla_ros.report import emit

app = typer.Typer(help="Train the models from recorded episodes.", no_args_is_help=True)

Datasets = Annotated[list[Path], typer.Option("--dataset", help="LeRobotDataset folder; repeat for several.")]
Output = Annotated[Path, typer.Option(help="Folder to write the model to.")]


@app.command("world-model")
def world_model(
    dataset: Datasets,
    output: Output,
    minutes: Annotated[float | None, typer.Option(help="Train for so long; default 15.", min=0.01)] = None,
    steps: Annotated[int | None, typer.Option(help="Train so many steps: reproducible.", min=3)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    cameras: Annotated[str, typer.Option(help="Cameras to look at, separated by commas.")] = "front",
    json: JsonFlag = False,
) -> None:
    """Train and export the world model of the fast loop, and report its imagination on held-out episodes."""
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.training.world_model import WorldModelTraining, train

    if steps is None and minutes is None:
        minutes = 15.0
    training = WorldModelTraining(
        steps=steps,
        minutes=minutes,
        seed=seed,
        threads=threads,
        device=device,
        cameras=tuple(cameras.split(",")),
    )
    with bar("training", 1.0) as update:
        report = train(dataset, output, training, update)
    emit(report, json)


@app.command("policy")
def policy(
    dataset: Datasets,
    output: Output,
    minutes: Annotated[float | None, typer.Option(help="Train for so long; default 15.", min=0.01)] = None,
    steps: Annotated[int | None, typer.Option(help="Train so many steps: reproducible.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    cameras: Annotated[str, typer.Option(help="Cameras to look at, separated by commas.")] = "front",
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=1e-6, max=1.0)] = 1e-3,
    start_from: Annotated[
        Path | None, typer.Option(help="Policy to go on from: name in models/ or folder.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Train the policy of the slow loop on demonstrations, by behaviour cloning."""
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.training.policy import PolicyTraining, train

    if steps is None and minutes is None:
        minutes = 15.0
    training = PolicyTraining(
        steps=steps,
        minutes=minutes,
        seed=seed,
        threads=threads,
        device=device,
        cameras=tuple(cameras.split(",")),
        learning_rate=learning_rate,
    )
    with bar("training", 1.0) as update:
        report = train(dataset, output, training, start_from, update)
    emit(report, json)


@app.command("heads")
def heads(
    dataset: Datasets,
    output: Output,
    world_model: Annotated[
        str, typer.Option(help="World model, by name or folder.")
    ] = defaults().world_model,
    steps: Annotated[int, typer.Option(help="Steps of training for each head.", min=3)] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    json: JsonFlag = False,
) -> None:
    """Train temporal distance and expected error on a frozen world model, and write it with them.

    What they reach on held-out episodes is reported beside what needs no learning.
    """
    from wm_vla_ros.commands.progress import bar
    from wm_vla_ros.training.heads import HeadsTraining, train

    training = HeadsTraining(steps=steps, seed=seed, threads=threads)
    with bar("training", 1.0) as update:
        report = train(dataset, world_model, output, training, update)
    emit(report, json)

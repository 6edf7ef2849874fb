"""`wm-vla train`: the models that ship in models/, from a recorded dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.report import emit

app = typer.Typer(help="Train the models from recorded episodes.", no_args_is_help=True)

Datasets = Annotated[list[Path], typer.Option("--dataset", help="LeRobotDataset folder; repeat for several.")]
Output = Annotated[Path, typer.Option(help="Folder to write the model to.")]


@app.command("world-model")
def world_model(dataset: Datasets, output: Output, json: JsonFlag = False) -> None:
    """Train and export the world model of the fast loop."""
    from wm_vla_ros.training.world_model import train

    emit(train(dataset, output), json)


@app.command("policy")
def policy(dataset: Datasets, output: Output, json: JsonFlag = False) -> None:
    """Train the policy of the slow loop."""
    from wm_vla_ros.training.policy import train

    emit(train(dataset, output), json)

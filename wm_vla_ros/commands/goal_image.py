"""`wm-vla goal-image`: show a running stack a picture of where its arm should be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.bringup.options import NAMESPACE
from wm_vla_ros.commands import JsonFlag, WorldModelOption
from wm_vla_ros.config import defaults

_DEFAULTS = defaults()


def command(
    image: Annotated[
        Path | None, typer.Argument(help="Image file, as the model's camera would see the goal.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="Or: a moment of this LeRobotDataset.")] = None,
    episode: Annotated[int, typer.Option(help="Of the data set.", min=0)] = 0,
    at: Annotated[float, typer.Option(help="Seconds after the episode's start.", min=0.0)] = 0.0,
    world_model: WorldModelOption = _DEFAULTS.world_model,
    seconds: Annotated[float, typer.Option(help="How long to go for it.", min=0.1, max=600.0)] = 10.0,
    tolerance: Annotated[
        float, typer.Option(help="Metres from the goal at which it is reached.", min=0.001, max=0.5)
    ] = 0.02,
    namespace: NAMESPACE = "",
    json: JsonFlag = False,
) -> None:
    """Give a running stack an image for a goal, and take it back when it is reached or time is up.

    The world model needs a goal encoder (`wm-vla train goal-encoder`). Give no instruction meanwhile: the
    newer goal counts. Exit code 0 only if the planner imagines the tip where the image has it.
    """
    from wm_vla_ros.goals.goal_image import GoalEncoder, pictures_from_dataset, pictures_from_file

    if (image is None) == (dataset is None):
        raise ValueError("give an image file, or --dataset with --episode and --at; not both")

    import numpy as np

    from wm_vla_ros import world_models
    from wm_vla_ros.report import Figure, Report, conditions, emit
    from wm_vla_ros.world_models.manifest import read_files
    from wm_vla_ros.world_models.registry import find

    model = world_models.load(world_model)
    encoder = GoalEncoder(model.manifest, read_files(find(world_model), model.manifest))
    if image is not None:
        images = pictures_from_file(image, encoder.cameras)
    else:
        assert dataset is not None
        images = pictures_from_dataset(dataset, episode, at, encoder.cameras)
    tip = [model.grounding_names.index(f"tip.{axis}") for axis in "xyz"]
    wanted = model.ground(encoder.encode(images))[tip]

    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.bringup.goal_sender import follow_goal

    def away(imagined: np.ndarray) -> float:
        return float(np.linalg.norm(imagined - wanted))

    with StackClient(namespace) as client:
        followed = follow_goal(
            client,
            lambda now: encoder.goal(images, now, 1, valid_for=seconds),
            seconds,
            until=lambda imagined: away(imagined) < tolerance,
        )
    figures = [Figure("goal_image.plans", followed.plans)]
    if followed.imagined is not None:
        figures.append(Figure("goal_image.distance", away(followed.imagined), "m"))
    where = {"world_model": model.manifest.name, "goal_tip": [round(float(x), 4) for x in wanted]}
    emit(Report("goal-image", {**where, **conditions()}, tuple(figures)), json)
    raise typer.Exit(0 if followed.imagined is not None and away(followed.imagined) < tolerance else 1)

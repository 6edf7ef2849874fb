"""Going on from a trained world model: from its vision alone, or from the whole of it."""

from __future__ import annotations

import torch
from torch import Tensor

from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.family import LatentWorldModel
from wm_vla_ros.world_models.manifest import ModelRefused, RecordedRobot, read_files, read_manifest
from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.tensors import read_float32

_VISION = "encoder.vision."
# What models that were trained before there was such a part have not: it begins as if it were not there.
_CONTACT = "dynamics.contact."


def vision_weights(
    name: str, robot: RobotSpec | RecordedRobot, cameras: tuple[str, ...]
) -> dict[str, Tensor]:
    """Weights of the vision of a trained model with the same cameras. Raises ModelRefused."""
    _, tensors = _trained(name, robot, cameras)
    return {key.removeprefix(_VISION): value for key, value in tensors.items() if key.startswith(_VISION)}


def take_weights(
    model: LatentWorldModel, name: str, robot: RobotSpec | RecordedRobot, cameras: tuple[str, ...]
) -> None:
    """Put all weights and scales of the trained model `name` into `model`.

    Raises ModelRefused when it is of another family, robot or cameras, or does not fit.
    """
    family, tensors = _trained(name, robot, cameras)
    if family != model.family:
        raise ModelRefused(f"{name}: expected the family {model.family} to go on from, found {family}")
    own = model.state_dict()
    if not any(key.startswith(_CONTACT) for key in tensors):
        tensors |= {key: value for key, value in own.items() if key.startswith(_CONTACT)}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:  # torch names every missing, unknown and misshapen tensor
        raise ModelRefused(f"{name}: {' '.join(str(error).split())}") from error


def _trained(
    name: str, robot: RobotSpec | RecordedRobot, cameras: tuple[str, ...]
) -> tuple[str, dict[str, Tensor]]:
    """Family and weights of a trained model with the same robot and cameras. Raises ModelRefused."""
    folder = find(name)
    manifest = read_manifest(folder)
    if isinstance(robot, RobotSpec):
        manifest.check_robot(robot)
    if tuple(manifest.cameras) != cameras:
        raise ModelRefused(f"{name}: expected the cameras {cameras}, found {tuple(manifest.cameras)}")
    contents = read_files(folder, manifest)
    if WEIGHTS_FILE not in contents:
        raise ModelRefused(f"{name}: expected {WEIGHTS_FILE} to go on from, found none")
    tensors = read_float32(contents[WEIGHTS_FILE], f"{name}: {WEIGHTS_FILE}")
    return manifest.family, {key: torch.from_numpy(value.copy()) for key, value in tensors.items()}


def take_vision(model: LatentWorldModel, vision: dict[str, Tensor]) -> None:
    """Put trained weights into the vision of `model`. Raises ModelRefused when they do not fit."""
    try:
        model.encoder.vision.load_state_dict(vision)
    except RuntimeError as error:  # torch names every missing, unknown and misshapen tensor
        raise ModelRefused(f"vision: {' '.join(str(error).split())}") from error

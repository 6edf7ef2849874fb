"""From a trained torch model to the folder that the runtime opens: ONNX files, safetensors, manifest."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor, nn

from wm_vla_ros import __version__
from wm_vla_ros.types import EE_DELTA
from wm_vla_ros.world_models.family import LatentWorldModel
from wm_vla_ros.world_models.manifest import (
    RECORDED,
    Manifest,
    RecordedRobot,
    encoder_id_of,
    sha256_of,
    write_model,
)
from wm_vla_ros.world_models.modules import StochasticTransition
from wm_vla_ros.world_models.onnx_runtime import (
    ENCODER_FILE,
    GROUNDING_FILE,
    ROLLOUT_FILE,
    SPREAD_FILE,
    STEP_FILE,
    WEIGHTS_FILE,
)

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec

PLANNING_HORIZON = 10
_OPSET = 20


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the manifest says of where a model comes from. dataset: folder names. command: as typed."""

    dataset: tuple[str, ...]
    licence: str
    command: str


class _Encode(nn.Module):
    def __init__(self, model: LatentWorldModel) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, *inputs: Tensor) -> Tensor:
        *images, proprio = inputs
        return self.encoder(list(images), proprio)


class _Rollout(nn.Module):
    def __init__(self, model: LatentWorldModel) -> None:
        super().__init__()
        self.dynamics = model.dynamics

    def forward(self, latent: Tensor, actions: Tensor) -> Tensor:
        return self.dynamics.rollout(latent, actions)


class _Spread(nn.Module):
    """Standard deviation in metres, (N, D) -> (N, G), of a transition that knows its distribution."""

    def __init__(self, dynamics: StochasticTransition, readout: Tensor) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.register_buffer("readout", readout.detach())

    def forward(self, latent: Tensor) -> Tensor:
        return self.dynamics.variance(latent, self.readout).sqrt()


def export(
    model: LatentWorldModel,
    folder: Path,
    robot: RobotSpec | RecordedRobot,
    proprio_names: tuple[str, ...],
    grounding_names: tuple[str, ...],
    provenance: Provenance,
    horizon: int = PLANNING_HORIZON,
) -> Manifest:
    """Write encoder, step, rollout unrolled over `horizon` ticks, grounding, torch weights and manifest.

    And the spread in metres, of a family whose transition knows a distribution.

    The folder's own name becomes the model's. Raises ModelRefused when that is no plain name.
    """
    recorded = robot if isinstance(robot, RecordedRobot) else None
    model = model.eval()
    config = model.config
    images = [torch.zeros((1, height, width, 3), dtype=torch.uint8) for _, height, width in config.cameras]
    names = [f"image_{name}" for name, _, _ in config.cameras]
    # Two rows: an exporter takes a size of one for a constant.
    latent, batch = torch.zeros(2, config.latent_dim), torch.export.Dim("batch")
    actions = torch.zeros(2, horizon, config.action_dim)
    weight, bias = model.grounding.folded()
    contents = {
        ENCODER_FILE: onnx_of(
            _Encode(model), (*images, torch.zeros(1, config.proprio_dim)), [*names, "proprio"], None
        ),
        STEP_FILE: onnx_of(
            model.dynamics, (latent, actions[:, 0].clone()), ["latent", "action"], ({0: batch}, {0: batch})
        ),
        ROLLOUT_FILE: onnx_of(
            _Rollout(model), (latent, actions), ["latent", "actions"], ({0: batch}, {0: batch})
        ),
        GROUNDING_FILE: save({"weight": weight.detach().contiguous(), "bias": bias.detach().contiguous()}),
        WEIGHTS_FILE: save(
            {name: value.contiguous() for name, value in model.weights().items()}, model.metadata() or None
        ),
    }
    if isinstance(model.dynamics, StochasticTransition):
        spread = _Spread(model.dynamics, weight)
        contents[SPREAD_FILE] = onnx_of(spread, (latent,), ["latent"], ({0: batch},))
    for name, graph in model.graphs().items():
        contents[name] = onnx_of(graph.module, graph.inputs, list(graph.names), graph.dynamic)
    files = {name: sha256_of(content) for name, content in contents.items()}
    manifest = Manifest(
        name=folder.name,
        family=model.family,
        robot=robot.name,
        latent_dim=config.latent_dim,
        action_dim=config.action_dim,
        action_space=RECORDED if recorded else EE_DELTA,
        actions=recorded.actions if recorded else None,
        translation_scale=1.0 if isinstance(robot, RecordedRobot) else robot.translation_scale,
        rotation_scale=1.0 if isinstance(robot, RecordedRobot) else robot.rotation_scale,
        dt=robot.dt,
        proprio_names=proprio_names,
        cameras={name: (height, width) for name, height, width in config.cameras},
        grounding_names=grounding_names,
        horizon=horizon,
        encoder_id=encoder_id_of(folder.name, files[ENCODER_FILE]),
        encoder_file=ENCODER_FILE,
        files=files,
        dataset=provenance.dataset,
        licence="; ".join([provenance.licence, *model.licences()]),
        command=provenance.command,
        version=__version__,
    )
    write_model(folder, contents, manifest)
    return manifest


def onnx_of(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], dynamic: tuple | None = None
) -> bytes:
    """The module as ONNX, of one output. dynamic: as `torch.export` takes it, None for fixed shapes."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations; the result is checked by loading
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(
            module.eval(),
            inputs,
            path,
            input_names=names,
            output_names=["latents"],
            dynamic_shapes=dynamic,
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()

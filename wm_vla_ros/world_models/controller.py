"""C of Ha and Schmidhuber's "World Models" (NeurIPS 2018, section 2.3): one linear map from latent to action.

a = W [z, h, g] + b, clipped, where g is the position in metres to be reached. It is as simple as a controller
can be on purpose: what there is to know of the world is in the latent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_vla_ros.types import EE_ACTION_DIM, FloatArray
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.tensors import read_float32

CONTROLLER_FILE = "controller.safetensors"
# Translation alone is controlled; what the demonstrations' quickest ticks are, in action units.
OUTPUTS, MOST = 3, 0.3
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Controller:
    """weight: (3, D + 3), bias: (3,), over latent and goal. encoder_id: whose latents."""

    weight: FloatArray
    bias: FloatArray
    encoder_id: str

    def act(self, latent: FloatArray, goal: FloatArray) -> FloatArray:
        """Action (7,) in a latent (D,) towards a position (3,) in metres; no rotation, gripper as it is."""
        action = np.zeros(EE_ACTION_DIM, np.float32)
        wanted = self.weight @ np.concatenate([latent, goal]).astype(np.float32) + self.bias
        action[:OUTPUTS] = np.clip(wanted, -MOST, MOST)
        return action

    def write(self, folder: Path) -> None:
        """Raises FileExistsError when `folder` holds a controller already."""
        from safetensors.numpy import save

        path = folder / CONTROLLER_FILE
        if path.exists():
            raise FileExistsError(f"{path} exists already and is never overwritten: give another path")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(save({"weight": self.weight, "bias": self.bias}, {"encoder_id": self.encoder_id}))


def read_controller(folder: Path, model: WorldModel) -> Controller:
    """The controller in `folder`, for `model`'s latents. Raises ModelRefused when it is of another's."""
    path = folder / CONTROLLER_FILE
    if not path.is_file():
        raise ModelRefused(f"controller: expected {CONTROLLER_FILE} in {folder}, found none")
    content = path.read_bytes()
    tensors = read_float32(content, str(path))
    # The header has just been judged.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    encoder_id = header.get(_METADATA, {}).get("encoder_id")
    if encoder_id != model.encoder_id:
        raise ModelRefused(f"{path}: expected latents of {model.encoder_id}, found {encoder_id}")
    for name, shape in (("weight", (OUTPUTS, model.latent_dim + 3)), ("bias", (OUTPUTS,))):
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            raise ModelRefused(f"{path}: {name}: expected shape {shape}, found {found}")
    return Controller(tensors["weight"], tensors["bias"], encoder_id)

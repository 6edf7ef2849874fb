"""A policy cloned on a world model's latents: one small network, run in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray
from wm_vla_ros.vla.policy_manifest import PolicyRefused
from wm_vla_ros.world_models.actor_critic import Perceptron
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.tensors import read_float32, read_metadata

if TYPE_CHECKING:
    from wm_vla_ros.world_models.protocol import WorldModel

# Ticks per chunk, and of these executed before the policy looks again.
CHUNK, EXECUTED = 20, 10
NETWORK, LATENT_MEAN, LATENT_SCALE = "network", "latent.mean", "latent.scale"
ACTION_MEAN, ACTION_SCALE = "action.mean", "action.scale"
# The encoder's id, then the instructions. One entry: safetensors writes several in an order that differs from
# call to call, and the same training would not give the same file.
ABOUT, BETWEEN = "encoder_and_tasks", "\n"


def words_of(tasks: tuple[str, ...]) -> dict[tuple[int, str], int]:
    """Entry of each word at each place in an instruction: what instructions share, the network shares."""
    known = sorted({place for task in tasks for place in enumerate(task.split())})
    return {place: entry for entry, place in enumerate(known)}


def spoken(task: str, words: Mapping[tuple[int, str], int]) -> FloatArray:
    """(len(words),) 1 for each word that `task` has at that place. Raises ValueError for an unknown word."""
    out = np.zeros(len(words), np.float32)
    for place in enumerate(task.split()):
        if place not in words:
            raise ValueError(f"the policy knows no {place[1]!r} as word {place[0] + 1} of {task!r}")
        out[words[place]] = 1.0
    return out


class LatentPolicy:
    """The same interface as `SlowPolicy`. Not thread-safe."""

    policy_type = "latent"
    chunk_size, n_action_steps = CHUNK, EXECUTED

    def __init__(self, path: Path, model: WorldModel) -> None:
        """path: what `training.latent_policy` wrote. Raises PolicyRefused where it does not fit `model`."""
        content, what = path.read_bytes(), path.name
        try:
            tensors, about = read_float32(content, what), read_metadata(content, what)
            encoder, *tasks = about[ABOUT].split(BETWEEN)
            if encoder != model.encoder_id:
                raise PolicyRefused(
                    f"{what}: cloned on latents of {encoder}, the model is {model.encoder_id}"
                )
            self.instructions = tuple(tasks)
            self._words = words_of(self.instructions)
            inputs = model.latent_dim + len(self._words)
            self._network = Perceptron(tensors, NETWORK, inputs, CHUNK * model.action_dim, what)
            self._latent = tensors[LATENT_MEAN], tensors[LATENT_SCALE]
            self._action = tensors[ACTION_MEAN], tensors[ACTION_SCALE]
        except (KeyError, ModelRefused) as error:
            raise PolicyRefused(f"{what}: no policy on latents: {error}") from error
        self.dt = model.dt
        self.cameras = tuple(model.manifest.cameras)
        self._model = model

    def infer(
        self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float32], instruction: str
    ) -> FloatArray:
        """The chunk (chunk_size, A) for one observation; as `SlowPolicy.infer`."""
        return self.act(self._model.encode(images, state), instruction)

    def act(self, latent: FloatArray, instruction: str) -> FloatArray:
        """The chunk (chunk_size, A) in a latent (D,). Raises ValueError for an unknown instruction."""
        mean, scale = self._latent
        seen = np.concatenate([(latent - mean) / scale, spoken(instruction, self._words)])
        mean, scale = self._action
        return self._network(seen[None])[0].reshape(CHUNK, -1) * scale + mean

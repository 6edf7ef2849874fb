"""What was learned on top of a frozen world model: how far apart two latents are in time, and where to doubt.

One optional file beside the model's own, small multilayer perceptrons in numpy: for 16 rollouts a session of
a runtime would cost more than they do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.tensors import read_float32

HEADS_FILE = "heads.safetensors"
TEMPORAL, ERROR = "temporal", "error"
# Layers of every head: two hidden ones with ReLU, and the output.
LAYERS = 3


def error_features(latents: NDArray, actions: NDArray) -> NDArray:
    """(N, 2 D + 2 A) of rollouts (N, H, D) under (N, H, A): first and last latent, mean and rms action."""
    size = np.sqrt(np.mean(np.square(actions), axis=1))
    return np.concatenate([latents[:, 0], latents[:, -1], actions.mean(axis=1), size], axis=-1)


class Heads:
    """Temporal distance and expected error, over latents of one world model."""

    def __init__(self, manifest: Manifest, content: bytes) -> None:
        """Raises ModelRefused when a tensor is missing or of a shape that does not fit the manifest."""
        where = f"{manifest.name}: {HEADS_FILE}"
        tensors = read_float32(content, where)
        dim, actions = manifest.latent_dim, manifest.action_dim
        self.horizon = manifest.horizon
        self._embed = tensors.get(f"{TEMPORAL}.embed", np.zeros(0, np.float32))
        if self._embed.ndim != 3 or self._embed.shape[:2] != (1, dim):
            found = self._embed.shape
            raise ModelRefused(f"{where}: {TEMPORAL}.embed: expected (1, {dim}, size), found {found}")
        self._temporal = _layers(tensors, TEMPORAL, self._embed.shape[2], where)
        self._error = _layers(tensors, ERROR, 2 * dim + 2 * actions, where)

    def ticks(self, latents: FloatArray, goal: FloatArray) -> FloatArray:
        """(N,) control ticks from latents (N, D) to the latent `goal` (D,), as whoever made the data went.

        A dynamical distance, regressed from pairs of one episode in hindsight (Hartikainen et al., "Dynamical
        Distance Learning for Semi-Supervised and Unsupervised Skill Discovery", ICLR 2020; Tian et al.,
        "Model-Based Visual Planning with Self-Supervised Functional Distances", ICLR 2021), in log1p. It is
        of the size of an embedded difference alone, and so the same both ways: with both latents beside it
        the head learned its episodes by heart.
        """
        apart = np.abs((latents - goal) @ self._embed[0])
        return np.expm1(np.maximum(_forward(self._temporal, apart)[0], 0.0))

    def error(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """(N,) metres by which the rollouts (N, H, D) under actions (N, H, A) may be off at their end.

        An ensemble's mean of log error, and one standard deviation of its members on top: what the data say
        of the error, and how little they say of it (bootstrapped ensembles as in Chua et al., "PETS",
        NeurIPS 2018; disagreement as in Sekar et al., "Plan2Explore", ICML 2020).
        """
        logs = _forward(self._error, error_features(latents, actions))
        return np.exp(logs.mean(axis=0) + logs.std(axis=0))


_Layers = list[tuple[FloatArray, FloatArray]]


def _forward(layers: _Layers, x: FloatArray) -> FloatArray:
    """(K, N) outputs of K networks for inputs (N, F)."""
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight + bias, 0.0)
    weight, bias = layers[-1]
    return (x @ weight + bias)[..., 0]


def _layers(tensors: Mapping[str, FloatArray], head: str, inputs: int, where: str) -> _Layers:
    layers: _Layers = []
    first = tensors.get(f"{head}.0.weight")
    if first is None or first.ndim != 3 or 0 in first.shape:
        found = None if first is None else first.shape
        raise ModelRefused(f"{where}: {head}.0.weight: expected (members, {inputs}, hidden), found {found}")
    members, hidden = first.shape[0], first.shape[2]
    for number in range(LAYERS):
        outputs = 1 if number == LAYERS - 1 else hidden
        pair = []
        for name, shape in (("weight", (members, inputs, outputs)), ("bias", (members, 1, outputs))):
            tensor = tensors.get(f"{head}.{number}.{name}")
            found = None if tensor is None else tensor.shape
            if tensor is None or found != shape:
                raise ModelRefused(f"{where}: {head}.{number}.{name}: expected {shape}, found {found}")
            pair.append(tensor)
        layers.append((pair[0], pair[1]))
        inputs = outputs
    return layers

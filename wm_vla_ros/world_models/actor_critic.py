"""What was learned in a frozen world model's imagination: how to get to a goal, and what a state is worth.

One optional file beside the model's own. Both networks are small enough for numpy: for the rollouts of one
plan a session of a runtime would cost more than they do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.tensors import read_float32

ACTOR_CRITIC_FILE = "actor_critic.safetensors"
ACTOR, CRITIC = "actor", "critic"
LOW, HIGH, BINS = f"{ACTOR}.low", f"{ACTOR}.high", f"{CRITIC}.bins"
# Linear, layer norm, SiLU; again; linear: places of linear layers and of norms in that sequence.
LINEAR, NORM = (0, 3, 6), (1, 4)
# torch's layer norm adds this to the variance.
_EPSILON = 1e-5


class ActorCritic:
    """Goal-conditioned policy and value over latents of one world model."""

    def __init__(self, manifest: Manifest, content: bytes) -> None:
        """Raises ModelRefused when a tensor is missing or of a shape that does not fit the manifest."""
        where = f"{manifest.name}: {ACTOR_CRITIC_FILE}"
        tensors = read_float32(content, where)
        self._dim, actions = manifest.latent_dim, manifest.action_dim
        self._low = _tensor(tensors, LOW, (actions,), where)
        self._high = _tensor(tensors, HIGH, (actions,), where)
        bins = tensors.get(BINS, np.zeros(0, np.float32))
        if bins.ndim != 1 or len(bins) < 2:
            raise ModelRefused(f"{where}: {BINS}: expected (bins,), at least 2, found {bins.shape}")
        self._bins = bins
        self._actor = Perceptron(tensors, ACTOR, 2 * self._dim, actions, where)
        self._critic = Perceptron(tensors, CRITIC, 2 * self._dim, len(bins), where)

    def act(self, latents: FloatArray, goal: FloatArray) -> FloatArray:
        """(N, A) actions in latents (N, D) on the way to the latent `goal` (D,): the policy's mean."""
        share = 0.5 + 0.5 * np.tanh(self._actor(_features(latents, goal)))
        return self._low + share * (self._high - self._low)

    def value(self, latents: FloatArray, goal: FloatArray) -> FloatArray:
        """(N,) discounted reward to come from latents (N, D) to `goal` (D,), if the policy acts from there.

        The reward of a tick is minus the distance to the goal (`training.goal_dream`), so a value is at most
        about 0.
        """
        logits = self._critic(_features(latents, goal))
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return (weights @ self._bins) / weights.sum(axis=-1)


def _features(latents: FloatArray, goal: FloatArray) -> FloatArray:
    return np.concatenate([latents, goal - latents], axis=-1)


class Perceptron:
    """The network that `world_models.networks.mlp` makes, in numpy."""

    def __init__(
        self, tensors: Mapping[str, FloatArray], name: str, inputs: int, outputs: int, where: str
    ) -> None:
        first = tensors.get(f"{name}.{LINEAR[0]}.weight")
        if first is None or first.ndim != 2 or 0 in first.shape:
            found = None if first is None else first.shape
            expected = f"({inputs}, hidden)"
            raise ModelRefused(f"{where}: {name}.{LINEAR[0]}.weight: expected {expected}, found {found}")
        hidden = first.shape[1]
        sizes = (inputs, hidden, hidden, outputs)
        self._linear = [
            (
                _tensor(tensors, f"{name}.{place}.weight", sizes[i : i + 2], where),
                _tensor(tensors, f"{name}.{place}.bias", sizes[i + 1 : i + 2], where),
            )
            for i, place in enumerate(LINEAR)
        ]
        self._norm = [
            tuple(_tensor(tensors, f"{name}.{place}.{kind}", (hidden,), where) for kind in ("weight", "bias"))
            for place in NORM
        ]

    def __call__(self, x: FloatArray) -> FloatArray:
        """(N, inputs) -> (N, outputs)."""
        for (weight, bias), (gain, offset) in zip(self._linear, self._norm, strict=False):
            x = x @ weight + bias
            x = x - x.mean(axis=-1, keepdims=True)
            x = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + _EPSILON) * gain + offset
            x = x * (0.5 + 0.5 * np.tanh(0.5 * x))  # SiLU: the sigmoid as tanh cannot overflow
        weight, bias = self._linear[-1]
        return x @ weight + bias


def _tensor(tensors: Mapping[str, FloatArray], name: str, shape: tuple[int, ...], where: str) -> FloatArray:
    found = tensors[name].shape if name in tensors else None
    if found != shape:
        raise ModelRefused(f"{where}: {name}: expected {shape}, found {found}")
    return tensors[name]

"""Sight: where data know where the objects are, what a policy sees in an image has to tell it.

An auxiliary loss that trains the part of the policy that looks, and leaves nothing behind in it: the head
that reads positions off its features is thrown away. Chunks of actions alone teach where things are in the
few scenes that were demonstrated; a scene costs nothing without a demonstration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wm_vla_ros.data.lerobot_reader import EpisodeArrays, concatenate, load_episodes
from wm_vla_ros.training.policy_data import ChunkSamples
from wm_vla_ros.types import FloatArray
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy

# A coordinate that deviates by less is always the same: nothing to be seen, metres.
_VARIES = 0.005
_HIDDEN = 128
# Scenes that are looked at per demonstrated frame.
_SHARE = 0.5
# Makes the policy's inputs of raw rows.
Prepare = Callable[[dict[str, Any]], dict[str, Any]]


def load_scenes(roots: Sequence[Path], like: EpisodeArrays, cameras: Sequence[str]) -> EpisodeArrays | None:
    """Data sets of scenes without demonstrations, None for none.

    Raises ValueError when their state or objects are others than those of the demonstrations `like`, and as
    `load_episodes`.
    """
    parts = [load_episodes(root, cameras) for root in roots]
    for root, part in zip(roots, parts, strict=True):
        for name in ("state_names", "environment_names"):
            if getattr(part, name) != getattr(like, name):
                raise ValueError(
                    f"{root}: {name} are {', '.join(getattr(part, name)) or 'none'}; "
                    f"those of the demonstrations are {', '.join(getattr(like, name)) or 'none'}"
                )
    return concatenate(parts) if parts else None


def seen_to_move(samples: ChunkSamples) -> NDArray[np.int64]:
    """Columns of the demonstrations' object positions that are not always the same: there to be seen."""
    return np.flatnonzero(samples.data.environment[samples.rows].std(axis=0) > _VARIES)


class Sight:
    """The loss, its head, and what it is learned from beside the demonstrations."""

    def __init__(
        self, policy: KeypointChunkPolicy, samples: ChunkSamples, scenes: EpisodeArrays, device: str
    ) -> None:
        """Of `samples` at least one column is `seen_to_move`."""
        self._columns = seen_to_move(samples)
        known = samples.data.environment[samples.rows][:, self._columns]
        self._mean, self._std = known.mean(axis=0), known.std(axis=0)
        self._samples, self._scenes, self._policy, self._device = samples, scenes, policy, device
        self._head = nn.Sequential(
            nn.Linear(policy.model.inlet.in_features, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, len(self._columns)),
        ).to(device)

    def parameters(self) -> list[nn.Parameter]:
        """Of the head, to be trained with the policy."""
        return list(self._head.parameters())

    def loss(
        self, features: Tensor, picks: NDArray[np.int64], prepare: Prepare, rng: np.random.Generator
    ) -> Tensor:
        """Mean L1 error of positions, in their standard deviations.

        features: (B, F) that the policy has of the samples `picks` (B,). Half as many scenes are looked at
        beside them, each under an instruction drawn at random.
        """
        wanted = self._samples.data.environment[self._samples.rows[picks]]
        rows = rng.choice(self._scenes.frame_rows, max(1, round(_SHARE * len(picks))))
        features = torch.cat([features, self._policy.features(prepare(self._raw(rows, rng)))])
        wanted = np.concatenate([wanted, self._scenes.environment[rows]])
        with torch.autocast(self._device, enabled=False):  # half a per cent of a position is a millimetre
            return (self._head(features.float()) - self._standardised(wanted)).abs().mean()

    @torch.no_grad()
    def error(self, policy: KeypointChunkPolicy, samples: ChunkSamples, prepare: Prepare) -> float:
        """Mean error of a coordinate, metres, that is read off what `policy` sees of all `samples`."""
        errors = []
        for rows in np.array_split(np.arange(len(samples)), max(1, len(samples) // 128)):
            seen = self._head(policy.features(prepare(samples.batch(rows))))
            wanted = self._standardised(samples.data.environment[samples.rows[rows]])
            errors.append((seen - wanted).abs().mean(dim=0).cpu().numpy() * len(rows))
        return float((np.sum(errors, axis=0) / len(samples) * self._std).mean())

    def _raw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Any]:
        scenes, told = self._scenes, self._policy.config.instructions
        return {
            "images": {camera: frames[scenes.row_frame[rows]] for camera, frames in scenes.images.items()},
            "state": scenes.states[rows],
            "task": [told[i] for i in rng.integers(len(told), size=len(rows))],
        }

    def _standardised(self, positions: FloatArray) -> Tensor:
        values = (positions[:, self._columns] - self._mean) / self._std
        return torch.from_numpy(values.astype(np.float32)).to(self._device)

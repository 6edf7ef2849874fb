"""Demonstrations as training samples of a chunk policy: frames, chunks of the expert's actions, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays, concatenate, load_episodes
from wm_vla_ros.types import FloatArray

# Below this a measured quantity is noise (0.01 rad, 1 cm): dividing by less would only amplify it.
_STATE_STD_FLOOR = 0.01


@dataclass(frozen=True)
class ChunkSamples:
    """Every frame of some episodes is one sample.

    rows: (S,) row of each sample. valid: (S,) how many actions of its chunk count. weights: (S,) sum to 1.
    """

    data: EpisodeArrays
    rows: NDArray[np.int64]
    valid: NDArray[np.int64]
    weights: NDArray[np.float64]
    chunk: int

    def __len__(self) -> int:
        return len(self.rows)

    def actions(self, picks: NDArray[np.int64]) -> FloatArray:
        """(B, chunk, A) of the expert; what lies beyond `valid` means nothing."""
        ticks = self.rows[picks, None] + np.arange(self.chunk)
        return self.data.expert_actions[np.minimum(ticks, len(self.data.actions) - 1)]

    def batch(self, picks: NDArray[np.int64]) -> dict[str, Any]:
        """images: camera -> (B, H, W, 3) uint8; state (B, P); actions (B, chunk, A); is_pad (B, chunk) bool;
        task: B instructions. Raw values, not normalised."""
        data, rows = self.data, self.rows[picks]
        episodes = np.searchsorted(data.starts, rows, side="right") - 1
        return {
            "images": {camera: frames[data.row_frame[rows]] for camera, frames in data.images.items()},
            "state": data.states[rows],
            "actions": self.actions(picks),
            "is_pad": np.arange(self.chunk) >= self.valid[picks][:, None],
            "task": [data.tasks[data.episode_tasks[episode]] for episode in episodes],
        }


def valid_ticks(data: EpisodeArrays, rows: NDArray[np.int64], chunk: int) -> NDArray[np.int64]:
    """(len(rows),) number of leading ticks of each chunk for which the expert's actions are its own doing.

    A chunk ends with its episode. In a row where something else acted, what the expert said is right for
    that row, but what it said afterwards answers to the disturbance, which nobody looking at the row could
    have known.
    """
    total = len(data.actions)
    places = np.where(data.disturbed, np.arange(total), total)
    next_disturbed = np.minimum.accumulate(places[::-1])[::-1]
    ends = data.starts[1:][np.searchsorted(data.starts, rows, side="right") - 1]
    return np.minimum(np.minimum(ends - rows, next_disturbed[rows] - rows + 1), chunk)


def load_demonstrations(roots: Sequence[Path], cameras: Sequence[str]) -> EpisodeArrays:
    """Data sets of demonstrations, one after the other.

    Raises ValueError when one of them holds episodes without an instruction, and as `load_episodes`.
    """
    parts = [load_episodes(root, cameras) for root in roots]
    for root, part in zip(roots, parts, strict=True):
        if not part.state_names:
            raise ValueError(f"{root} lacks observation.state, which a policy reads")
        if "play" in part.tasks:
            raise ValueError(
                f"{root} holds play, which follows no instruction; a policy needs demonstrations"
            )
    return concatenate(parts)


def split_samples(
    data: EpisodeArrays, chunk: int, held_out: float, seed: int
) -> tuple[ChunkSamples, ChunkSamples]:
    """(training, held-out) samples, split by episode.

    Instructions are drawn with the square root of their share: rare ones oftener than they occur.
    """
    if data.episodes < 2:
        raise ValueError(f"need at least 2 episodes, one of them held out, got {data.episodes}")
    order = np.random.default_rng(seed).permutation(data.episodes)
    count = min(max(1, round(held_out * data.episodes)), data.episodes - 1)
    return tuple(  # type: ignore[return-value]
        samples_of(data, np.sort(part), chunk) for part in (order[count:], order[:count])
    )


def samples_of(data: EpisodeArrays, episodes: NDArray[np.int64], chunk: int) -> ChunkSamples:
    """Every frame of these episodes, in order. Instructions are drawn as in `split_samples`."""
    wanted = np.zeros(data.episodes, bool)
    wanted[episodes] = True
    owner = np.searchsorted(data.starts, data.frame_rows, side="right") - 1
    rows = data.frame_rows[wanted[owner]]
    tasks = data.episode_tasks[owner[wanted[owner]]]
    counts = np.bincount(tasks, minlength=len(data.tasks)).astype(np.float64)
    weights = 1.0 / np.sqrt(np.maximum(counts, 1.0))[tasks]
    return ChunkSamples(data, rows, valid_ticks(data, rows, chunk), weights / weights.sum(), chunk)


def normalisation(samples: ChunkSamples) -> dict[str, dict[str, FloatArray]]:
    """Mean and standard deviation of states and of the expert's actions, by LeRobot's feature names.

    An action that the expert never uses has deviation zero: the policy's output there is exactly its mean.
    """
    states, actions = samples.data.states[samples.rows], samples.data.expert_actions[samples.rows]
    deviation = actions.std(axis=0)
    return {
        "observation.state": {
            "mean": states.mean(axis=0),
            "std": np.maximum(states.std(axis=0), _STATE_STD_FLOOR),
        },
        "action": {
            "mean": actions.mean(axis=0),
            "std": np.where(deviation < 1e-6, 0.0, deviation).astype(np.float32),
        },
    }

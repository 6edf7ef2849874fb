"""How well a world model imagines: latent error against persistence, probes, metres, and contact.

A latent error alone proves nothing: an encoder that collapses gets a better one. So each is reported beside
a linear probe (is the world still in the latent?) and an error in metres (is it still right after h ticks?).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.report import Figure
from wm_vla_ros.training.sequences import (
    TIP,
    columns,
    frame_stride,
    frames,
    grounding_names,
    positions,
    window_starts,
)
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

HORIZONS = (5, 10, 20)
CONTACT_TICKS = 20
# A cube that moves further than this within CONTACT_TICKS is being pushed, metres.
PUSHED = 0.01
RIDGE = 1e-3


@dataclass(frozen=True)
class Imagined:
    """A model's latents along W windows of held-out episodes.

    start: (W, D) encoded. predicted: (W, H, D) after 1 .. H actions. rows: (W,) first row of each window.
    encoded: every row's latent (N, D), NaN where there is no image.
    """

    rows: NDArray[np.int64]
    start: FloatArray
    predicted: FloatArray
    encoded: FloatArray


def horizons(data: EpisodeArrays) -> tuple[int, ...]:
    """5, 10 and 20 ticks, each moved up to the next at which the data set has an image."""
    stride = frame_stride(data)
    return tuple(-(-ticks // stride) * stride for ticks in HORIZONS)


def encode_rows(model: WorldModel, data: EpisodeArrays, rows: NDArray[np.int64]) -> FloatArray:
    """Latents (len(rows), D) of rows that have an image."""
    cameras = tuple(model.manifest.cameras)
    out = np.empty((len(rows), model.latent_dim), np.float32)
    for number, row in enumerate(rows):
        images = {camera: frames(data, camera, np.array([row]))[0] for camera in cameras}
        out[number] = model.encode(images, data.states[row])
    return out


def imagine(
    model: WorldModel, data: EpisodeArrays, episodes: NDArray[np.int64], most: int | None = None
) -> Imagined:
    """Roll the recorded actions out from every rendered row, or from `most` of them evenly spread."""
    longest = max(horizons(data))
    rows = window_starts(data, episodes, longest)
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    needed = np.unique(np.concatenate([rows, *(rows + ticks for ticks in horizons(data))]))
    encoded = np.full((len(data.states), model.latent_dim), np.nan, np.float32)
    encoded[needed] = encode_rows(model, data, needed)
    actions = data.actions[rows[:, None] + np.arange(longest)]
    return Imagined(rows, encoded[rows], model.rollout(encoded[rows], actions), encoded)


def probe(
    train_latents: FloatArray, train_truth: FloatArray, latents: FloatArray, truth: FloatArray
) -> float:
    """R² of ridge regression fitted on (n, D) -> (n, k) metres and judged on other episodes' (m, D), (m, k).

    Pooled over the k columns, so that one which hardly varies (a cube's height) neither helps nor hurts.
    """
    mean, spread = train_latents.mean(0), train_latents.std(0) + 1e-6
    x = ((train_latents - mean) / spread).astype(np.float64)
    y_mean = train_truth.mean(0)
    gram = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, x.T @ (train_truth - y_mean))
    guess = ((latents - mean) / spread) @ weight + y_mean
    return float(1.0 - np.sum((guess - truth) ** 2) / np.sum((truth - truth.mean(0)) ** 2))


def ratio(imagined: Imagined, ticks: int) -> tuple[float, float]:
    """(squared, rms) latent error of imagination over that of persistence, `ticks` after the start."""
    later = imagined.encoded[imagined.rows + ticks]
    error = np.sum((imagined.predicted[:, ticks - 1] - later) ** 2)
    still = np.sum((imagined.start - later) ** 2)
    return float(error / still), float(np.sqrt(error / still))

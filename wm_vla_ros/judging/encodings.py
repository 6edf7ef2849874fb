"""Latents of recorded rows, and linear probes: what of the world can be read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import mapped, quotient
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import TIP, columns, frames, grounding_names
from wm_vla_ros.report import Figure
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

_RIDGE = 1e-3


def check_layout(model: WorldModel, data: EpisodeArrays) -> None:
    """Raises ValueError when the data set is of another layout than the model, naming both."""
    manifest = model.manifest
    for name, expected, found in (
        ("robot", manifest.robot, data.robot),
        ("proprio_names", manifest.proprio_names, data.state_names),
        ("grounding_names", manifest.grounding_names, grounding_names(data)),
    ):
        if expected != found:
            raise ValueError(f"{name}: the model {manifest.name} has {expected}, the data set {found}")
    missing = [camera for camera in manifest.cameras if camera not in data.images]
    if missing:
        raise ValueError(f"the data set has no camera {missing}; it has {sorted(data.images)}")


def encode_rows(model: WorldModel, data: EpisodeArrays, rows: NDArray[np.int64]) -> FloatArray:
    """Latents (len(rows), D) of rows that have an image."""
    out = np.empty((len(rows), model.latent_dim), np.float32)
    images = {camera: frames(data, camera, rows) for camera in model.manifest.cameras}
    for number, row in enumerate(rows):
        out[number] = model.encode({name: seen[number] for name, seen in images.items()}, data.states[row])
    return out


def things(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Columns among the grounded `names` of what is probed: the fingertip, and all cubes together.

    Where neither is grounded, all that is, as "state".
    """
    cubes = [column for cube in columns(names, "_cube").values() for column in cube]
    found = {"tip": columns(names, TIP).get(TIP, []), "cube": cubes}
    return {name: at for name, at in found.items() if at} or {"state": list(range(len(names)))}


def probe(fitted: FloatArray, truth: FloatArray, latents: FloatArray) -> NDArray[np.float64]:
    """Ridge regression from latents (n, D) to truth (n, k), applied to other latents (m, D): (m, k)."""
    mean, spread = fitted.mean(0), fitted.std(0) + 1e-6
    x = ((fitted - mean) / spread).astype(np.float64)
    centre = truth.mean(0)
    gram = x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, x.T @ (truth - centre))
    return ((latents - mean) / spread) @ weight + centre


def probe_figures(
    prefix: str,
    wanted: Mapping[str, Sequence[int]],
    fitted: tuple[FloatArray, FloatArray],
    judged: tuple[FloatArray, FloatArray],
    episode: NDArray[np.int64],
) -> list[Figure]:
    """R2 of probes: one figure `prefix`NAME for each of `wanted`, name -> columns of the truth.

    fitted, judged: latents (n, D) and truth (n, G), of different episodes. episode: (n,) of the judged.
    """
    out = []
    for name, at in wanted.items():
        truth = judged[1][:, at]
        guess = probe(fitted[0], fitted[1][:, at], judged[0])
        residual = np.sum((guess - truth) ** 2, axis=1)
        spread = np.sum((truth - truth.mean(0)) ** 2, axis=1)
        figure = quotient(f"{prefix}{name}", residual, spread, episode)
        out.append(mapped(figure, figure.name, lambda value: 1.0 - value))
    return out

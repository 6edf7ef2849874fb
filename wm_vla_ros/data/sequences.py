"""Recorded episodes cut into windows: what world model training and its evaluation both read.

Row t holds what was observed at tick t and the action applied from t to t + 1. Images exist at some rows
only (`EpisodeArrays.frame_rows`); a window starts where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.types import FloatArray

AXES = ("x", "y", "z")
TIP = "tip"
# An image's light is taken over so many by so many blocks.
BLOCKS = 4
# Where `robots.proprio` puts the measured fingertip.
_TIP_STATE = tuple(f"tip.position.{axis}" for axis in AXES)


def grounding_names(data: EpisodeArrays) -> tuple[str, ...]:
    """Names of the columns of `positions`: what a latent of these data is to be read in.

    The fingertip where the state has one, else the whole state; then the recorded objects. Where there is
    neither, the light of the cameras' images, block by block.
    """
    if _has_tip(data):
        return (*(f"{TIP}.{axis}" for axis in AXES), *data.environment_names)
    if names := (*data.state_names, *data.environment_names):
        return names
    blocks = [(r, c, colour) for r in range(BLOCKS) for c in range(BLOCKS) for colour in ("r", "g", "b")]
    return tuple(f"{camera}.light.{r}.{c}.{colour}" for camera in data.images for r, c, colour in blocks)


def in_metres(data: EpisodeArrays) -> NDArray[np.bool_]:
    """(G,) which columns of `positions` are metres; the others have the data set's own units."""
    metres = set(data.environment_names) | ({f"{TIP}.{axis}" for axis in AXES} if _has_tip(data) else set())
    return np.array([name in metres for name in grounding_names(data)])


def positions(data: EpisodeArrays) -> FloatArray:
    """(N, G), ordered as `grounding_names`: in metres in the base frame (`in_metres`), or as recorded.

    Light is the mean over a block of an image, in [0, 1]; between images it is that of the last.
    Raises ValueError for a data set with neither state nor objects nor cameras.
    """
    if _has_tip(data):
        state = data.states[:, [data.state_names.index(name) for name in _TIP_STATE]]
    else:
        state = data.states
    if state.shape[1] or data.environment_names:
        return np.concatenate([state, data.environment], axis=1)
    if not data.images:
        raise ValueError("the data set has neither state nor object positions nor a camera to ground on")
    return np.concatenate([_light(data, camera) for camera in data.images], axis=1)[data.row_frame]


def check_needs(family: Callable[..., Any], data: EpisodeArrays, cameras: tuple[str, ...]) -> None:
    """Raises ValueError naming what the family needs (`LatentWorldModel.needs`) and the data set lacks."""
    there = {"cameras": bool(cameras), "state": bool(data.state_names), "success": bool(data.success.any())}
    model = getattr(family, "func", family)  # what a partial is of
    missing = [name for name in getattr(model, "needs", ()) if not there[name]]
    if missing:
        found = [name for name, has in there.items() if has]
        raise ValueError(
            f"{model.family} needs {', '.join(missing)}; the data set has {found or 'none of it'}"
        )


def _has_tip(data: EpisodeArrays) -> bool:
    return all(name in data.state_names for name in _TIP_STATE)


def _light(data: EpisodeArrays, camera: str) -> FloatArray:
    """(F, BLOCKS * BLOCKS * 3) of every image."""
    out = []
    for part in np.array_split(np.arange(len(data.frame_rows)), -(-len(data.frame_rows) // 256)):
        images = data.images[camera][part]
        count, height, width = images.shape[:3]
        rows, columns = height // BLOCKS, width // BLOCKS
        cut = images[:, : rows * BLOCKS, : columns * BLOCKS]
        blocks = cut.reshape(count, BLOCKS, rows, BLOCKS, columns, 3)
        out.append(blocks.mean((2, 4), dtype=np.float32).reshape(count, -1) / 255.0)
    return np.concatenate(out)


def columns(names: tuple[str, ...], suffix: str) -> dict[str, list[int]]:
    """Thing -> its x, y, z columns among `names` ("red_cube.x", ...), for things that end with `suffix`."""
    things = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return {
        thing: [names.index(f"{thing}.{axis}") for axis in AXES]
        for thing in things
        if thing.endswith(suffix) and all(f"{thing}.{axis}" in names for axis in AXES)
    }


def split(data: EpisodeArrays, held_out: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, held-out) episode numbers. Raises ValueError with fewer than two episodes."""
    if data.episodes < 2:
        raise ValueError(f"need at least 2 episodes to hold one out, got {data.episodes}")
    order = np.random.default_rng(seed).permutation(data.episodes)
    count = min(max(1, round(held_out * data.episodes)), data.episodes - 1)
    return np.sort(order[count:]), np.sort(order[:count])


def window_starts(data: EpisodeArrays, episodes: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Rows that have an image and `length` more rows behind them, in these episodes.

    Raises ValueError when no episode is that long.
    """
    wanted = np.zeros(data.episodes, bool)
    wanted[episodes] = True
    episode = data.row_episode()[data.frame_rows]
    fits = data.frame_rows + length < data.starts[episode + 1]
    starts = data.frame_rows[fits & wanted[episode]]
    if len(starts) == 0:
        raise ValueError(f"no episode among {len(episodes)} has a window of {length} ticks")
    return starts


def frame_stride(data: EpisodeArrays) -> int:
    """Ticks from one image to the next. Raises ValueError when it is not the same everywhere."""
    same_episode = np.diff(data.row_episode()[data.frame_rows]) == 0
    strides = np.unique(np.diff(data.frame_rows)[same_episode])
    if len(strides) != 1:
        raise ValueError(f"images must come every so many ticks, found gaps of {strides.tolist()}")
    return int(strides[0])


def frames(data: EpisodeArrays, camera: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images (len(rows), H, W, 3) of rows that have one."""
    return data.images[camera][data.row_frame[rows]]

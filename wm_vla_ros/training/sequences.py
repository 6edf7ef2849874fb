"""Recorded episodes cut into windows: what world model training and its evaluation both read.

Row t holds what was observed at tick t and the action applied from t to t + 1. Images exist at some rows
only (`EpisodeArrays.frame_rows`); a window starts where there is one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.types import FloatArray

AXES = ("x", "y", "z")
TIP = "tip"
# Where `robots.proprio` puts the measured fingertip.
_TIP_STATE = tuple(f"tip.position.{axis}" for axis in AXES)


def grounding_names(data: EpisodeArrays) -> tuple[str, ...]:
    """Names of the columns of `positions`: the fingertip, then the recorded objects."""
    return (*(f"{TIP}.{axis}" for axis in AXES), *data.environment_names)


def positions(data: EpisodeArrays) -> FloatArray:
    """(N, G) metres in the base frame: the measured fingertip and every recorded object.

    Raises ValueError when the data set has no fingertip in its state or no object positions.
    """
    missing = [name for name in _TIP_STATE if name not in data.state_names]
    if missing:
        raise ValueError(f"the data set's state lacks {missing}; it has {list(data.state_names)}")
    if not data.environment_names:
        raise ValueError("the data set has no object positions (privileged.object_positions) to ground on")
    tip = data.states[:, [data.state_names.index(name) for name in _TIP_STATE]]
    return np.concatenate([tip, data.environment], axis=1)


def columns(names: tuple[str, ...], suffix: str) -> dict[str, list[int]]:
    """Thing -> its x, y, z columns among `names` ("red_cube.x", ...), for things that end with `suffix`."""
    things = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return {
        thing: [names.index(f"{thing}.{axis}") for axis in AXES] for thing in things if thing.endswith(suffix)
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

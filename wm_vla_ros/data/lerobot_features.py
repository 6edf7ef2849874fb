"""What a LeRobotDataset v3 says of its features, in the forms that other recorders write, checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.episode import IMAGE_PREFIX

_OBSERVATION = "observation."
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
# Share of a row's time by which a time stamp may be off.
_LATE = 0.25


def camera_keys(features: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Camera name -> its feature ("observation.images.top" and "observation.image" alike), in their order.

    Raises ValueError for a name that is no plain one: it becomes the name of a file.
    """
    out = {}
    for key, feature in features.items():
        if feature["dtype"] in ("video", "image"):
            name = key.removeprefix(IMAGE_PREFIX).removeprefix(_OBSERVATION)
            if not _PLAIN.match(name):
                raise ValueError(f"{root}: expected plain names of cameras, found {name!r}")
            out[name] = key
    return out


def vector_width(features: Mapping[str, Any], key: str, root: Path) -> int:
    """Numbers per row of a feature. Raises ValueError when it is no vector."""
    shape = list(features[key]["shape"])
    if len(shape) != 1:
        raise ValueError(f"{root}: {key} has the shape {shape}, needed: one dimension")
    return int(shape[0])


def vector_names(features: Mapping[str, Any], key: str, root: Path) -> tuple[str, ...]:
    """One name per number: the data set's own, or `key`_0 and so on where those are too few or the same."""
    width, names = vector_width(features, key, root), features[key].get("names")
    if isinstance(names, Mapping):  # LeRobot's recorders group them: {"motors": [...]}
        names = [name for group in names.values() for name in group]
    told = tuple(str(name) for name in names or ())
    if len(told) == width == len(set(told)):
        return told
    last = key.rpartition(".")[2]
    return tuple(f"{last}_{number}" for number in range(width))


def robot_name(info: Mapping[str, Any]) -> str:
    """The data set's robot as a plain name, "unknown" where it has none."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", str(info.get("robot_type") or "")).lstrip("._-")
    return name or "unknown"


def file_in(root: Path, name: str) -> Path:
    """The file `name` of the data set. Raises ValueError for a name that leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{root}: expected a file inside the data set, found {name!r}")
    return root / path


def check_episodes(lengths: Sequence[int], root: Path) -> None:
    """Raises ValueError naming the first episode without a row."""
    for episode, length in enumerate(lengths):
        if length < 1:
            raise ValueError(f"{root}: episode {episode} is empty")


def check_rate(stamps: NDArray[np.float64], starts: NDArray[np.int64], fps: float, root: Path) -> None:
    """Raises ValueError naming the first episode whose rows are not 1 / fps apart. stamps: (N,) s."""
    for episode, (start, stop) in enumerate(pairwise(starts)):
        gaps = np.diff(stamps[start:stop])
        wrong = np.flatnonzero(~(np.abs(gaps * fps - 1.0) <= _LATE))
        if len(wrong):
            raise ValueError(
                f"{root}: episode {episode} has rows {gaps[wrong[0]]:.4g} s apart at its row {wrong[0]}, "
                f"the data set has {fps:g} per second"
            )


def check_finite(values: NDArray, name: str, starts: NDArray[np.int64], root: Path) -> None:
    """Raises ValueError naming the first row of (N, W) that is not finite, and its episode."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        episode = int(np.searchsorted(starts, bad[0], side="right")) - 1
        raise ValueError(f"{root}: {name} is not finite in row {int(bad[0])}, episode {episode}")


def fingerprint(root: Path, before: bytes = b"") -> str:
    """sha256 (hex) of `before` and what the data set says of itself and of each of its episodes."""
    digest = hashlib.sha256(before)
    for path in [root / "meta" / "info.json", *sorted((root / "meta" / "episodes").glob("*/*.parquet"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()

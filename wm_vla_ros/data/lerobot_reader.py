"""Reads a LeRobotDataset v3 into contiguous arrays for training: one pass over the videos, then a cache.

    data = load_episodes("data/push", cameras=("front",))     # first time: decodes; then: maps the cache
    start, stop = data.bounds(episode)                         # rows of one episode
    data.states[start:stop], data.actions[start:stop]
    data.images["front"][data.row_frame[start:stop]]           # the frame in force at each row

LeRobot's own class decodes one random frame at a time, which is right for its trainers on a GPU and too slow
for small models on a CPU. Needs neither LeRobot nor torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.episode import (
    ACTION,
    DISTURBED,
    ENVIRONMENT,
    EXPERT_ACTION,
    IMAGE_PREFIX,
    STATE,
    SUCCESS,
)

_CACHE_FORMAT = 1
_VECTORS = {STATE: "states", ACTION: "actions", EXPERT_ACTION: "expert_actions", ENVIRONMENT: "environment"}
_FLAGS = {DISTURBED: "disturbed", SUCCESS: "success"}


class StackedFrames:
    """Frames of several data sets behind one index, without copying them together."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames at `indices` (any shape): indices.shape + (H, W, 3)."""
        at = np.asarray(indices)
        out = np.empty((*at.shape, *self._parts[0].shape[1:]), np.uint8)
        owner = np.searchsorted(self._ends, at, side="right")
        for number in np.unique(owner):
            mine = owner == number
            out[mine] = self._parts[number][at[mine] - (self._ends[number] - len(self._parts[number]))]
        return out


@dataclass(frozen=True)
class EpisodeArrays:
    """A data set of N rows, E episodes and F frames per camera, as arrays (read-only memory maps).

    images: camera -> (F, H, W, 3) uint8; index it with `row_frame`. frame_rows: (F,) row of each frame.
    row_frame: (N,) index of the newest frame at or before each row, of the same episode. states: (N, P).
    actions: (N, A) as executed. expert_actions: (N, A) what the expert would have done in that row; equal to
    `actions` when the data set has no such column. environment: (N, G) object positions in metres; G may
    be 0.
    disturbed: (N,) bool, rows in which something else than the expert acted; success: (N,) bool, the task's
    predicate; both all False when the data set has no such column.
    starts: (E + 1,) first row of each episode, and N. episode_tasks: (E,) index into `tasks`.
    seeds: (E,) scene seeds, -1 when unknown. dt: seconds per row.
    """

    images: Mapping[str, Any]
    frame_rows: NDArray[np.int64]
    row_frame: NDArray[np.int64]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    expert_actions: NDArray[np.float32]
    environment: NDArray[np.float32]
    disturbed: NDArray[np.bool_]
    success: NDArray[np.bool_]
    starts: NDArray[np.int64]
    episode_tasks: NDArray[np.int64]
    seeds: NDArray[np.int64]
    tasks: tuple[str, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    environment_names: tuple[str, ...]
    robot: str
    dt: float

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.starts) - 1

    def bounds(self, episode: int) -> tuple[int, int]:
        """First row of an episode, and the row after its last."""
        return int(self.starts[episode]), int(self.starts[episode + 1])

    def row_episode(self) -> NDArray[np.int64]:
        """(N,) episode of each row."""
        return np.repeat(np.arange(self.episodes), np.diff(self.starts))


def load_episodes(root: Path | str, cameras: Sequence[str] = ("front",), stride: int = 2) -> EpisodeArrays:
    """The data set in `root` as arrays.

    stride: every stride-th row of an episode has a frame (data sets recorded here render every second row).
    The decoded frames are kept in `root`/cache as .npy files, keyed by the data set's own metadata, and
    mapped into memory afterwards.

    Raises FileNotFoundError when there is no data set, ValueError when it is not version 3, lacks a feature
    (naming it and those that are there), or has a value that is not finite.
    """
    root = Path(root)
    info = read_info(root)
    keys = [IMAGE_PREFIX + camera for camera in cameras]
    missing = [key for key in (STATE, ACTION, *keys) if key not in info["features"]]
    if missing:
        raise ValueError(f"{root} lacks {missing}; its features are {sorted(info['features'])}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    table = read_episode_table(root)
    if not table["length"]:
        raise ValueError(f"{root} has no episodes")
    rows = _read_rows(root, info, table)
    within = np.concatenate([np.arange(length) for length in table["length"]])
    has_frame = within % stride == 0
    folder = root / "cache" / _cache_key(root, stride)
    images = {}
    for camera, key in zip(cameras, keys, strict=True):
        path = folder / f"{camera}.npy"
        if not path.exists():
            _decode(root, info, table, key, stride, int(has_frame.sum()), path)
        images[camera] = np.load(path, mmap_mode="r", allow_pickle=False)
    features = info["features"]
    return EpisodeArrays(
        images=images,
        frame_rows=np.flatnonzero(has_frame),
        row_frame=np.cumsum(has_frame) - 1,
        **rows,
        seeds=np.asarray(table.get("scene_seed", [-1] * len(table["length"])), np.int64),
        state_names=tuple(features[STATE]["names"]),
        action_names=tuple(features[ACTION]["names"]),
        environment_names=tuple(features[ENVIRONMENT]["names"]) if ENVIRONMENT in features else (),
        robot=str(info.get("robot_type")),
        dt=1.0 / info["fps"],
    )


def concatenate(parts: Sequence[EpisodeArrays]) -> EpisodeArrays:
    """Several data sets one after the other. Raises ValueError naming what differs between them."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        for name in ("state_names", "action_names", "environment_names", "robot", "dt"):
            if getattr(part, name) != getattr(first, name):
                raise ValueError(f"{name} differs: {getattr(first, name)} and {getattr(part, name)}")
        if set(part.images) != set(first.images):
            raise ValueError(f"cameras differ: {sorted(first.images)} and {sorted(part.images)}")
    tasks = tuple(dict.fromkeys(task for part in parts for task in part.tasks))
    row_offsets = np.cumsum([0, *(len(part.actions) for part in parts)])
    frame_offsets = np.cumsum([0, *(len(part.frame_rows) for part in parts)])
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("states", "actions", "expert_actions", "environment", "disturbed", "success", "seeds")
    }
    joined["frame_rows"] = np.concatenate(
        [p.frame_rows + r for p, r in zip(parts, row_offsets, strict=False)]
    )
    joined["row_frame"] = np.concatenate(
        [p.row_frame + f for p, f in zip(parts, frame_offsets, strict=False)]
    )
    joined["starts"] = np.concatenate(
        [p.starts[:-1] + r for p, r in zip(parts, row_offsets, strict=False)] + [row_offsets[-1:]]
    )
    joined["episode_tasks"] = np.concatenate(
        [np.asarray([tasks.index(task) for task in p.tasks])[p.episode_tasks] for p in parts]
    )
    images = {camera: StackedFrames([part.images[camera] for part in parts]) for camera in first.images}
    return replace(first, images=images, tasks=tasks, **joined)


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json of a LeRobotDataset v3. Raises FileNotFoundError or ValueError."""
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise FileNotFoundError(f"no data set in {root}: {path} is missing")
    info = json.loads(path.read_text())
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise ValueError(f"{root} is a LeRobotDataset {version}, needed: v3.x")
    return info


def read_episode_table(root: Path) -> dict[str, list[Any]]:
    """One list per column of meta/episodes, in episode order; statistics left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        schema = pq.read_schema(path)
        tables.append(pq.read_table(path, columns=[n for n in schema.names if not n.startswith("stats/")]))
    if not tables:
        return {"length": []}
    return pa.concat_tables(tables).sort_by("episode_index").to_pydict()


def read_tasks(root: Path) -> tuple[str, ...]:
    """Task strings by their index."""
    import pandas as pd

    frame = pd.read_parquet(root / "meta" / "tasks.parquet")
    return tuple(str(task) for task in frame.sort_values("task_index").index)


def _read_rows(root: Path, info: Mapping[str, Any], table: Mapping[str, list[Any]]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [name for name in (*_VECTORS, *_FLAGS) if name in info["features"]]
    paths = sorted((root / "data").glob("*/*.parquet"))
    data = pa.concat_tables([pq.read_table(path, columns=[*wanted, "task_index"]) for path in paths])
    total = int(np.sum(table["length"]))
    if len(data) != total:
        raise ValueError(f"{root} has {len(data)} rows, its episodes add up to {total}")
    starts = np.concatenate([[0], np.cumsum(table["length"])])
    out: dict[str, Any] = {"starts": starts}
    for name, field in _VECTORS.items():
        if name in wanted:
            out[field] = _matrix(data[name], name, info["features"][name]["shape"][0])
    out.setdefault("expert_actions", out["actions"])
    out.setdefault("environment", np.zeros((total, 0), np.float32))
    for name, field in _FLAGS.items():
        out[field] = data[name].to_numpy() if name in wanted else np.zeros(total, bool)
    out["episode_tasks"] = data["task_index"].to_numpy()[starts[:-1]]
    out["tasks"] = read_tasks(root)
    return out


def _matrix(column: Any, name: str, width: int) -> NDArray[np.float32]:
    values = column.combine_chunks()
    flat = values.flatten() if hasattr(column.type, "value_type") else values
    array = np.array(flat.to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(f"{name} is not finite in row {int(np.flatnonzero(bad)[0])}")
    array.setflags(write=False)
    return array


def _cache_key(root: Path, stride: int) -> str:
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {stride}".encode())
    paths = [root / "meta" / "info.json", *sorted((root / "meta" / "episodes").glob("*/*.parquet"))]
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _decode(
    root: Path,
    info: Mapping[str, Any],
    table: Mapping[str, list[Any]],
    key: str,
    stride: int,
    frames: int,
    path: Path,
) -> None:
    """Decode one camera's frames into `path`, which appears only when it is complete."""
    height, width, channels = info["features"][key]["shape"]
    if channels != 3:
        raise ValueError(f"{key} has {channels} channels, needed: 3")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        partial = folder / "frames.npy"
        out = np.lib.format.open_memmap(partial, "w+", np.uint8, (frames, height, width, 3))
        firsts = np.concatenate([[0], np.cumsum([-(-length // stride) for length in table["length"]])])
        for video, episodes in _videos(root, info, table, key):
            _decode_file(video, episodes, table, key, info["fps"], stride, firsts, out)
        out.flush()
        del out
        os.replace(partial, path)
    finally:
        shutil.rmtree(folder)


def _videos(
    root: Path, info: Mapping[str, Any], table: Mapping[str, list[Any]], key: str
) -> Iterator[tuple[Path, list[int]]]:
    files: dict[tuple[int, int], list[int]] = {}
    columns = (table[f"videos/{key}/chunk_index"], table[f"videos/{key}/file_index"])
    for episode, place in enumerate(zip(*columns, strict=True)):
        files.setdefault(place, []).append(episode)
    for (chunk, number), episodes in sorted(files.items()):
        name = info["video_path"].format(video_key=key, chunk_index=chunk, file_index=number)
        yield root / name, episodes


def _decode_file(
    video: Path,
    episodes: Sequence[int],
    table: Mapping[str, list[Any]],
    key: str,
    fps: int,
    stride: int,
    firsts: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    import av

    # Frame number in the file -> index in `out`, for the frames that are wanted.
    wanted: dict[int, int] = {}
    for episode in episodes:
        start = round(table[f"videos/{key}/from_timestamp"][episode] * fps)
        for count, row in enumerate(range(0, table["length"][episode], stride)):
            wanted[start + row] = int(firsts[episode]) + count
    found = 0
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            target = wanted.get(round(float(frame.pts * stream.time_base) * fps))
            if target is not None:
                out[target] = frame.to_ndarray(format="rgb24")
                found += 1
    if found != len(wanted):
        raise ValueError(f"{video} holds {found} of the {len(wanted)} frames that its episodes need")

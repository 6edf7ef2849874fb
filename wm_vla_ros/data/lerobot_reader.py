"""Reads a LeRobotDataset v3 into contiguous arrays for training: one pass over the videos, then a cache.

    data = load_episodes("data/push", cameras=("front",))     # first time: decodes; then: maps the cache
    start, stop = data.bounds(episode)                         # rows of one episode
    data.states[start:stop], data.actions[start:stop]
    data.images["front"][data.row_frame[start:stop]]           # the frame in force at each row

LeRobot's own class decodes one random frame at a time, which is right for its trainers on a GPU and too slow
for small models on a CPU. Needs neither LeRobot nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    FRAME_AGE,
    IMAGE_PREFIX,
    STATE,
    SUCCESS,
)
from wm_vla_ros.data.frame_cache import cached_frames
from wm_vla_ros.data.lerobot_features import (
    camera_keys,
    check_episodes,
    check_finite,
    check_rate,
    robot_name,
    vector_names,
    vector_width,
)

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

    images: camera -> (F, H, W, 3) uint8; index it with `row_frame`. frame_rows: (F,) row of each frame; every
    row where there is no camera. row_frame: (N,) index of the newest frame at or before each row, of the same
    episode. states: (N, P), P may be 0.
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


def load_episodes(
    root: Path | str, cameras: Sequence[str] | None = ("front",), stride: int | None = None
) -> EpisodeArrays:
    """The data set in `root` as arrays.

    cameras: None for all that it has. stride: every stride-th row of an episode has a frame; None for every
    second row of data sets recorded here, which render no more, and every row of others. The decoded frames
    are kept in `root`/cache as .npy files, keyed by the data set's own metadata, and mapped into memory
    afterwards.

    Raises FileNotFoundError when there is no data set; ValueError, naming file, episode or feature, when it
    is not version 3, lacks a feature, has an empty episode, a value that is not finite, rows at another rate
    than it says, or a file that cannot be read.
    """
    root = Path(root)
    info = read_info(root)
    features = info["features"]
    known = camera_keys(features, root)
    cameras = tuple(known) if cameras is None else tuple(cameras)
    missing = [camera for camera in cameras if camera not in known]
    if ACTION not in features or missing:
        lacks = [*([] if ACTION in features else [ACTION]), *(IMAGE_PREFIX + camera for camera in missing)]
        raise ValueError(f"{root} lacks {lacks}; its features are {sorted(features)}")
    if STATE not in features and not cameras:
        raise ValueError(
            f"{root} lacks {STATE} and no camera is asked for; its features are {sorted(features)}"
        )
    if stride is None:
        stride = 2 if FRAME_AGE in features and cameras else 1
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    table = read_episode_table(root)
    if not table["length"]:
        raise ValueError(f"{root} has no episodes")
    check_episodes(table["length"], root)
    rows = _read_rows(root, info, table)
    within = np.concatenate([np.arange(length) for length in table["length"]])
    has_frame = within % stride == 0
    return EpisodeArrays(
        images={name: cached_frames(root, info, table, name, known[name], stride) for name in cameras},
        frame_rows=np.flatnonzero(has_frame),
        row_frame=np.cumsum(has_frame) - 1,
        **rows,
        seeds=np.asarray(table.get("scene_seed", [-1] * len(table["length"])), np.int64),
        state_names=vector_names(features, STATE, root) if STATE in features else (),
        action_names=vector_names(features, ACTION, root),
        environment_names=vector_names(features, ENVIRONMENT, root) if ENVIRONMENT in features else (),
        robot=robot_name(info),
        dt=1.0 / info["fps"],
    )


def concatenate(parts: Sequence[EpisodeArrays]) -> EpisodeArrays:
    """Several data sets one after the other. Raises ValueError naming what differs, and where."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for number, part in enumerate(parts[1:], start=2):
        where = f"between the first data set and number {number}"
        if part.dt != first.dt:
            raise ValueError(f"rows per second differ {where}: {1 / first.dt:g} and {1 / part.dt:g}")
        for name in ("state_names", "action_names", "environment_names", "robot"):
            if getattr(part, name) != getattr(first, name):
                raise ValueError(f"{name} differs {where}: {getattr(first, name)} and {getattr(part, name)}")
        sizes = [
            {name: each.images[name].shape[1:3] for name in sorted(each.images)} for each in (first, part)
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(f"cameras differ {where}: {sizes[0]} and {sizes[1]}")
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

    features = info["features"]
    wanted = [name for name in (*_VECTORS, *_FLAGS, "timestamp") if name in features]
    tables = []
    for path in sorted((root / "data").glob("*/*.parquet")):
        try:
            tables.append(pq.read_table(path, columns=[*wanted, "task_index", "episode_index"]))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    total = int(np.sum(table["length"]))
    found = sum(map(len, tables))
    if found != total:
        raise ValueError(f"{root} has {found} rows, its episodes add up to {total}")
    data = pa.concat_tables(tables)
    starts = np.concatenate([[0], np.cumsum(table["length"])])
    owner = np.repeat(np.arange(len(table["length"])), table["length"])
    astray = np.flatnonzero(data["episode_index"].to_numpy() != owner)
    if len(astray):
        raise ValueError(f"{root}: row {astray[0]} is not of episode {owner[astray[0]]}, as the table says")
    out: dict[str, Any] = {"starts": starts}
    for name, field in _VECTORS.items():
        if name in wanted:
            out[field] = _matrix(data[name], vector_width(features, name, root))
            check_finite(out[field], name, starts, root)
    if "timestamp" in wanted:
        check_rate(data["timestamp"].to_numpy().astype(np.float64), starts, info["fps"], root)
    for field in ("states", "environment"):
        out.setdefault(field, np.zeros((total, 0), np.float32))
    out.setdefault("expert_actions", out["actions"])
    for name, field in _FLAGS.items():
        out[field] = data[name].to_numpy() if name in wanted else np.zeros(total, bool)
    out["episode_tasks"] = data["task_index"].to_numpy()[starts[:-1]]
    out["tasks"] = read_tasks(root)
    return out


def _matrix(column: Any, width: int) -> NDArray[np.float32]:
    values = column.combine_chunks()
    flat = values.flatten() if hasattr(column.type, "value_type") else values
    array = np.array(flat.to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
    array.setflags(write=False)
    return array

"""Episodes as a world model sees them: recorded ones, encoded, and imagined ones beside them, told apart.

On disk it is a LeRobotDataset v3 without cameras: `observation.latent` takes their place. Every row says
whether it was imagined and out of what, so that what a data set is made of survives its being cut, merged and
copied; the episode table names the recording and the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.episode import ACTION, DISTURBED, EXPERT_ACTION, FRAME_AGE, Episode
from wm_vla_ros.data.lerobot_features import check_episodes, check_finite, robot_name, vector_names
from wm_vla_ros.data.lerobot_reader import read_episode_table, read_info, read_tasks
from wm_vla_ros.types import FloatArray

LATENT = "observation.latent"
IMAGINED = "provenance.imagined"
# Episode and row of the recording that a row's motion was taken from, the row -1 on the way there; and
# those whose latent its episode was begun from.
MOTION, SCENE = "provenance.motion", "provenance.scene"
_PLACE = ("episode", "row")
# In the episode table: what begins so.
_TOLD = "provenance/"
EPISODE_IMAGINED = f"{_TOLD}imagined"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a data set was made of. source: the recording's name. The two sha256 are of the recording's
    metadata and of the weights that imagined. seed: of what was drawn."""

    source: str
    source_sha256: str
    world_model: str
    encoder_id: str
    weights_sha256: str
    seed: int


@dataclass(frozen=True)
class LatentEpisodes:
    """E episodes, N rows.

    latents: (N, D), that of the newest frame at or before each row, `age` (N,) seconds older than it.
    actions: (N, A) executed; expert_actions: (N, A) what is to be imitated. disturbed: (N,) bool, as in
    `EpisodeArrays`. imagined: (N,) bool. motion, scene: (N, 2) episode and row of the recording (see MOTION).
    starts: (E + 1,). episode_tasks: (E,) index into `tasks`. dt: seconds per row.
    """

    latents: FloatArray
    age: FloatArray
    actions: FloatArray
    expert_actions: FloatArray
    disturbed: NDArray[np.bool_]
    imagined: NDArray[np.bool_]
    motion: NDArray[np.int64]
    scene: NDArray[np.int64]
    starts: NDArray[np.int64]
    episode_tasks: NDArray[np.int64]
    tasks: tuple[str, ...]
    action_names: tuple[str, ...]
    robot: str
    dt: float
    provenance: Provenance

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.starts) - 1

    @property
    def imagined_episodes(self) -> NDArray[np.bool_]:
        """(E,) which episodes were imagined."""
        return self.imagined[self.starts[:-1]]

    def only(self, episodes: Sequence[int] | NDArray[np.int64]) -> LatentEpisodes:
        """Those episodes, in that order."""
        spans = [np.arange(self.starts[e], self.starts[e + 1]) for e in episodes]
        rows = np.concatenate([np.zeros(0, np.int64), *spans])
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _ROWS.values()},
            starts=np.cumsum([0, *map(len, spans)]),
            episode_tasks=self.episode_tasks[np.asarray(episodes, np.int64)],
        )


def joined(parts: Sequence[LatentEpisodes]) -> LatentEpisodes:
    """One after the other. Raises ValueError where they are not of one recording and model."""
    first = parts[0]
    for part in parts[1:]:
        for name in ("tasks", "action_names", "robot", "dt", "provenance"):
            if getattr(part, name) != getattr(first, name):
                raise ValueError(f"{name} differs: {getattr(first, name)} and {getattr(part, name)}")
    before = np.cumsum([0, *(part.starts[-1] for part in parts)])
    return replace(
        first,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS.values()},
        starts=np.concatenate([[0], *(p.starts[1:] + b for p, b in zip(parts, before, strict=False))]),
        episode_tasks=np.concatenate([part.episode_tasks for part in parts]),
    )


# Column -> field, of what every row has.
_ROWS = {
    LATENT: "latents",
    FRAME_AGE: "age",
    ACTION: "actions",
    EXPERT_ACTION: "expert_actions",
    DISTURBED: "disturbed",
    IMAGINED: "imagined",
    MOTION: "motion",
    SCENE: "scene",
}
_DTYPES = {DISTURBED: "bool", IMAGINED: "bool", MOTION: "int64", SCENE: "int64"}


@dataclass(frozen=True, slots=True)
class _Spec:
    """What `EpisodeWriter` asks of a data set's columns."""

    data: LatentEpisodes

    @property
    def robot(self) -> str:
        return self.data.robot

    @property
    def fps(self) -> int:
        return round(1.0 / self.data.dt)

    def features(self) -> dict[str, dict[str, Any]]:
        names: dict[str, Sequence[str]] = {
            LATENT: [f"latent_{entry}" for entry in range(self.data.latents.shape[1])],
            FRAME_AGE: ("seconds",),
            ACTION: self.data.action_names,
            EXPERT_ACTION: self.data.action_names,
            DISTURBED: ("disturbed",),
            IMAGINED: ("imagined",),
            MOTION: _PLACE,
            SCENE: _PLACE,
        }
        return {
            key: {"dtype": _DTYPES.get(key, "float32"), "shape": (len(entries),), "names": list(entries)}
            for key, entries in names.items()
        }


def write_latent_episodes(root: Path, data: LatentEpisodes) -> None:
    """Write `data` to the new folder `root`. Raises FileExistsError when there is something already, and
    ValueError for rows that are not finite."""
    from wm_vla_ros.data.lerobot_writer import EpisodeWriter
    from wm_vla_ros.data.video_shard import VideoRecord

    for name in (LATENT, ACTION, EXPERT_ACTION):
        check_finite(getattr(data, _ROWS[name]), name, data.starts, root)
    root.parent.mkdir(parents=True, exist_ok=True)
    told = {f"{_TOLD}{name}": value for name, value in asdict(data.provenance).items()}
    with EpisodeWriter(root, _Spec(data)) as writer:
        for number in range(data.episodes):
            rows = slice(data.starts[number], data.starts[number + 1])
            columns = {key: getattr(data, name)[rows] for key, name in _ROWS.items()}
            columns = {key: v if v.ndim == 2 else v[:, None] for key, v in columns.items()}
            task = data.tasks[data.episode_tasks[number]]
            episode = Episode(columns, {}, np.zeros(0, np.int64), task, data.provenance.seed)
            imagined = bool(data.imagined[data.starts[number]])
            writer.save_episode(episode, VideoRecord({**told, EPISODE_IMAGINED: imagined}, {}))


def load_latent_episodes(root: Path) -> LatentEpisodes:
    """What `write_latent_episodes` wrote.

    Raises FileNotFoundError when there is no data set, ValueError when it has no latents or no provenance,
    mixes recordings or models, or has rows that are not finite or episodes that are part imagined.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = read_info(root)
    features = info["features"]
    if lacks := [name for name in _ROWS if name not in features]:
        raise ValueError(f"{root} lacks {lacks}: it was not made by `wm-vla data imagine`")
    table = read_episode_table(root)
    check_episodes(table["length"], root)
    origins = {
        tuple(told) for told in zip(*(table[f"{_TOLD}{f.name}"] for f in fields(Provenance)), strict=True)
    }
    if len(origins) != 1:
        raise ValueError(f"{root}: expected one recording and one world model, found {sorted(origins)}")
    paths = sorted((root / "data").glob("*/*.parquet"))
    rows = pa.concat_tables(
        [pq.read_table(path, columns=[*_ROWS, "task_index", "episode_index"]) for path in paths]
    )
    starts = np.concatenate([[0], np.cumsum(table["length"])])
    columns = {field: _column(rows[name], features[name]["shape"][0]) for name, field in _ROWS.items()}
    for name in (LATENT, ACTION, EXPERT_ACTION):
        check_finite(columns[_ROWS[name]], name, starts, root)
    whole = np.repeat(columns["imagined"][starts[:-1]], table["length"])
    if not np.array_equal(whole, columns["imagined"]):
        row = int(np.argmax(whole != columns["imagined"]))
        raise ValueError(f"{root}: row {row} says imagined: {columns['imagined'][row]}, its episode does not")
    return LatentEpisodes(
        **columns,
        starts=starts,
        episode_tasks=rows["task_index"].to_numpy()[starts[:-1]],
        tasks=read_tasks(root),
        action_names=vector_names(features, ACTION, root),
        robot=robot_name(info),
        dt=1.0 / info["fps"],
        provenance=Provenance(*origins.pop()),
    )


def _column(column: Any, width: int) -> NDArray:
    values = column.combine_chunks()
    if width == 1:
        return values.to_numpy(zero_copy_only=False)
    return np.array(values.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)

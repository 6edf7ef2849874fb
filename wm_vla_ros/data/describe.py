"""What a data set holds, as a report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from wm_vla_ros.data.episode import SUCCESS
from wm_vla_ros.data.latent_episodes import EPISODE_IMAGINED
from wm_vla_ros.data.lerobot_reader import read_episode_table, read_info
from wm_vla_ros.report import Figure, Report, proportion


def describe(root: Path) -> Report:
    """Episodes, rows, tasks with counts, features, success share and size of any LeRobotDataset v3.

    Raises FileNotFoundError or ValueError when `root` holds none.
    """
    info = read_info(root)
    table = read_episode_table(root)
    lengths = table["length"]
    counts = Counter(task for tasks in table.get("tasks", []) for task in tasks)
    size = sum(
        path.stat().st_size for path in root.rglob("*") if path.is_file() and not _in_cache(path, root)
    )
    figures = [
        Figure("data.episodes", len(lengths)),
        Figure("data.rows", int(np.sum(lengths))),
        Figure("data.fps", info["fps"], "Hz"),
        Figure("data.hours", round(float(np.sum(lengths)) / info["fps"] / 3600, 3), "h"),
        Figure("data.tasks", len(counts)),
        Figure("data.size", round(size / 1e6, 1), "MB"),
    ]
    if (told := table.get(EPISODE_IMAGINED)) is not None:
        figures.append(Figure("data.imagined", sum(told)))
    succeeded = _succeeded(root, info, lengths)
    if succeeded is not None:
        figures.append(proportion("data.success", succeeded, len(lengths)))
    conditions = {
        "root": str(root),
        "robot": info.get("robot_type"),
        "tasks": dict(sorted(counts.items())),
        "features": {name: [f["dtype"], *f["shape"]] for name, f in sorted(info["features"].items())},
    }
    return Report("data info", conditions, tuple(figures))


def _in_cache(path: Path, root: Path) -> bool:
    return path.relative_to(root).parts[0] == "cache"


def _succeeded(root: Path, info: dict, lengths: list[int]) -> int | None:
    """Episodes in which the task's predicate held at least once; None when the data set does not say."""
    if SUCCESS not in info["features"] or not lengths:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted((root / "data").glob("*/*.parquet"))
    flags = pa.concat_tables([pq.read_table(path, columns=[SUCCESS]) for path in paths])[SUCCESS].to_numpy()
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return int(np.logical_or.reduceat(flags, starts).sum())

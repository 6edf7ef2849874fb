"""Writes episodes as a LeRobotDataset v3 that LeRobot's own class loads.

Metadata go through LeRobot's `LeRobotDatasetMetadata`; rows and videos are written here, because its
recorder is made for one robot in real time (see `video_shard`). Videos may be encoded by several processes
into the same folder, each with its own `VideoShard`; exactly one process owns the `EpisodeWriter`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wm_vla_ros.data.episode import DatasetSpec, Episode
from wm_vla_ros.data.video_shard import (
    CODEC,
    KEYFRAME_INTERVAL,
    PIXEL_FORMAT,
    PRESET,
    QUALITY,
    VideoRecord,
    VideoShard,
    vector_stats,
)

ROWS_PER_FILE = 200_000


class EpisodeWriter:
    """Creates a data set folder and appends episodes to it. Use as a context manager, or call `finalize`.

    root: a path that does not exist yet: FileExistsError otherwise, before anything is written.
    """

    def __init__(self, root: Path, spec: DatasetSpec) -> None:
        root = Path(root)
        refuse_existing(root)
        from lerobot.configs.video import RGBEncoderConfig
        from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
        from lerobot.datasets.feature_utils import get_hf_features_from_features

        self._spec = spec
        self._root = root
        self._encoder = RGBEncoderConfig(
            vcodec=CODEC, pix_fmt=PIXEL_FORMAT, g=KEYFRAME_INTERVAL, crf=QUALITY, preset=PRESET
        )
        self._meta = LeRobotDatasetMetadata.create(
            repo_id=f"local/{root.name}",
            fps=spec.fps,
            robot_type=spec.robot,
            features=spec.features(),
            root=root,
            metadata_buffer_size=100,
        )
        self._schema = get_hf_features_from_features(self._meta.features).arrow_schema
        self._shard: VideoShard | None = None
        self._parquet: Any = None
        self._file_index = -1
        self._rows_in_file = 0
        self._finalized = False

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.finalize()

    @property
    def episodes(self) -> int:
        """Episodes written so far."""
        return self._meta.total_episodes

    def save_episode(self, episode: Episode, video: VideoRecord | None = None) -> None:
        """Append one episode.

        video: from the `VideoShard` that already encoded its frames, perhaps in another process; without
        it they are encoded here. Raises ValueError when a column does not fit or is not finite.
        """
        if video is None:
            episode.validate(self._spec)
            if self._shard is None:
                self._shard = VideoShard(self._root, self._spec)
            video = self._shard.append(episode)
        index, rows = self._meta.total_episodes, len(episode)
        self._meta.save_episode_tasks([episode.task])
        columns = self._columns(episode, index)
        data_file = self._write_rows(columns, rows)
        first = self._meta.total_frames
        self._meta.save_episode(
            index,
            rows,
            [episode.task],
            {name: vector_stats(values.reshape(rows, -1)) for name, values in columns.items()} | video.stats,
            {
                "data/chunk_index": 0,
                "data/file_index": data_file,
                "dataset_from_index": first,
                "dataset_to_index": first + rows,
                "scene_seed": episode.seed,
                **video.metadata,
            },
        )

    def finalize(self) -> None:
        """Close every file and write what describes them. The folder loads from then on."""
        if self._finalized:
            return
        self._finalized = True
        from lerobot.datasets.io_utils import write_info

        if self._shard is not None:
            self._shard.close()
        if self._parquet is not None:
            self._parquet.close()
        self._meta.finalize()
        if self._meta.total_episodes:
            self._meta.update_video_info(video_encoder=self._encoder)
            write_info(self._meta.info, self._meta.root)

    def _columns(self, episode: Episode, index: int) -> dict[str, np.ndarray]:
        rows = len(episode)
        counter = np.arange(rows, dtype=np.int64)
        # LeRobot stores a feature of one number as a plain column.
        columns = {
            name: values[:, 0] if values.shape[1] == 1 else values for name, values in episode.columns.items()
        }
        columns["timestamp"] = (counter / self._spec.fps).astype(np.float32)
        columns["frame_index"] = counter
        columns["episode_index"] = np.full(rows, index)
        columns["index"] = self._meta.total_frames + counter
        columns["task_index"] = np.full(rows, self._meta.get_task_index(episode.task))
        return columns

    def _write_rows(self, columns: dict[str, np.ndarray], rows: int) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._parquet is None or self._rows_in_file + rows > ROWS_PER_FILE:
            if self._parquet is not None:
                self._parquet.close()
            self._file_index += 1
            self._rows_in_file = 0
            path = self._root / self._meta.data_path.format(chunk_index=0, file_index=self._file_index)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._parquet = pq.ParquetWriter(path, schema=self._schema, compression="snappy")
        arrays = []
        for field in self._schema:
            values = columns[field.name]
            if values.ndim == 2:
                flat = pa.array(values.ravel(), field.type.value_type)
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
            else:
                arrays.append(pa.array(values, field.type))
        # One row group per episode, as LeRobot's recorder writes them: an episode is read without the rest.
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows_in_file += rows
        return self._file_index


def refuse_existing(path: Path) -> None:
    """Raises FileExistsError when something is at `path`: a data set is never overwritten."""
    if path.exists():
        raise FileExistsError(f"{path} exists already; a data set is never overwritten: give another path")

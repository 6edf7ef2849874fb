"""The frames of a LeRobotDataset v3, decoded once and kept as .npy files that are mapped into memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_features import file_in, fingerprint

_CACHE_FORMAT = 1


def cached_frames(
    root: Path,
    info: Mapping[str, Any],
    table: Mapping[str, list[Any]],
    camera: str,
    key: str,
    stride: int,
) -> NDArray[np.uint8]:
    """(F, H, W, 3) every stride-th frame of each episode of one camera, episode after episode.

    info, table: of the data set's metadata. key: the camera's feature. Kept in
    `root`/cache/<digest of metadata and stride>/<camera>.npy. Raises ValueError, naming file, episode and
    feature, for a file that cannot be read or holds other frames than the metadata say.
    """
    path = root / "cache" / _cache_key(root, stride) / f"{camera}.npy"
    if not path.exists():
        _decode(root, info, table, key, stride, path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _cache_key(root: Path, stride: int) -> str:
    return fingerprint(root, f"{_CACHE_FORMAT} {stride}".encode())[:16]


def _decode(
    root: Path,
    info: Mapping[str, Any],
    table: Mapping[str, list[Any]],
    key: str,
    stride: int,
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
        firsts = np.concatenate([[0], np.cumsum([-(-length // stride) for length in table["length"]])])
        shape = (int(firsts[-1]), height, width, 3)
        out = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        if info["features"][key]["dtype"] == "image":
            _read_images(root, table, key, stride, firsts, out)
        else:
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
        yield file_in(root, name), episodes


def _read_images(
    root: Path,
    table: Mapping[str, list[Any]],
    key: str,
    stride: int,
    firsts: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Frames that are kept one by one in the rows themselves, as PNG or JPEG."""
    import io

    import pyarrow.parquet as pq
    from PIL import Image

    starts = np.concatenate([[0], np.cumsum(table["length"])])
    row = 0
    for path in sorted((root / "data").glob("*/*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(256, columns=[key]):
            for value in batch.column(0).to_pylist():
                episode = int(np.searchsorted(starts, row, side="right")) - 1
                within = row - int(starts[episode])
                row += 1
                if within % stride:
                    continue
                try:
                    image = np.asarray(Image.open(io.BytesIO(value["bytes"])).convert("RGB"))
                    out[int(firsts[episode]) + within // stride] = image
                except (OSError, ValueError, TypeError, KeyError) as error:
                    raise ValueError(f"{path}: {key} of episode {episode}, row {within}: {error}") from error


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
    found, rate = 0, None
    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            rate = stream.average_rate
            for frame in container.decode(stream):
                target = wanted.get(round(float(frame.pts * stream.time_base) * fps))
                if target is not None:
                    out[target] = frame.to_ndarray(format="rgb24")
                    found += 1
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        which = f"episodes {episodes[0]} to {episodes[-1]}"
        raise ValueError(f"{video}, {key} of {which}, cannot be decoded: {error}") from error
    if found != len(wanted):
        rates = f"it has {float(rate):g} frames a second, the data set {fps:g} rows" if rate else "no rate"
        raise ValueError(
            f"{video} holds {found} of the {len(wanted)} frames that episodes {episodes[0]} to "
            f"{episodes[-1]} need; {rates}"
        )

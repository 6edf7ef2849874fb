"""One recorded episode, and the list of columns that every data set of this package has.

Pure arrays: no LeRobot, no video, no simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATE = "observation.state"
ACTION = "action"
# LeRobot takes whatever begins with "observation" or "action" for something that a policy reads or predicts,
# and "image" in a name for pixels. What follows is neither: simulation knows it, or training needs it.
ENVIRONMENT = "privileged.object_positions"
FRAME_AGE = "frame_age"
EXPERT_ACTION = "expert.action"
# True where something else than the expert acted: what the expert says later does not follow from here.
DISTURBED = "expert.interrupted"
SUCCESS = "next.success"
FLAGS = (DISTURBED, SUCCESS)
IMAGE_PREFIX = "observation.images."


@dataclass(frozen=True)
class DatasetSpec:
    """What the rows of a data set hold.

    robot: name of the robot. fps: rows per second. state_names, action_names, environment_names: one name
    per dimension. cameras: names, images are (height, width, 3) uint8 RGB.
    """

    robot: str
    fps: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    environment_names: tuple[str, ...]
    cameras: tuple[str, ...]
    height: int
    width: int

    def vector_widths(self) -> dict[str, int]:
        """Number of floats per row of every vector column, by column name."""
        return {
            STATE: len(self.state_names),
            ACTION: len(self.action_names),
            EXPERT_ACTION: len(self.action_names),
            ENVIRONMENT: len(self.environment_names),
            FRAME_AGE: 1,
            DISTURBED: 1,
            SUCCESS: 1,
        }

    def features(self) -> dict[str, dict[str, Any]]:
        """The same as LeRobot's feature dictionary."""
        names = {
            STATE: self.state_names,
            ACTION: self.action_names,
            EXPERT_ACTION: self.action_names,
            ENVIRONMENT: self.environment_names,
            FRAME_AGE: ("seconds",),
            DISTURBED: ("disturbed",),
            SUCCESS: ("success",),
        }
        out: dict[str, dict[str, Any]] = {
            key: {
                "dtype": "bool" if key in FLAGS else "float32",
                "shape": (len(entries),),
                "names": list(entries),
            }
            for key, entries in names.items()
        }
        for camera in self.cameras:
            out[IMAGE_PREFIX + camera] = {
                "dtype": "video",
                "shape": (self.height, self.width, 3),
                "names": ["height", "width", "channels"],
            }
        return out


@dataclass(frozen=True)
class Episode:
    """One episode of T rows with F rendered frames per camera.

    columns: name -> (T, width) array, the names and widths of `DatasetSpec.vector_widths`.
    frames: camera -> (F, H, W, 3) uint8. frame_rows: (F,) row at which each frame was rendered, increasing,
    the first 0; rows in between hold the frame before them. task: the instruction, or a word such as
    "play". seed: what the scene was made from; the same seed makes the same scene.
    """

    columns: Mapping[str, NDArray]
    frames: Mapping[str, NDArray[np.uint8]]
    frame_rows: NDArray[np.int64]
    task: str
    seed: int

    def __len__(self) -> int:
        return len(self.columns[ACTION])

    def validate(self, spec: DatasetSpec) -> None:
        """Raises ValueError naming the first column that does not fit `spec` or is not finite."""
        rows = len(self)
        if rows == 0:
            raise ValueError("an episode needs at least one row")
        widths = spec.vector_widths()
        if set(self.columns) != set(widths):
            raise ValueError(f"columns are {sorted(self.columns)}, must be {sorted(widths)}")
        for name, width in widths.items():
            array = self.columns[name]
            if array.shape != (rows, width):
                raise ValueError(f"{name} has shape {array.shape}, must be {(rows, width)}")
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise ValueError(f"{name} is not finite at row {row}")
        if set(self.frames) != set(spec.cameras):
            raise ValueError(f"frames are of {sorted(self.frames)}, cameras are {sorted(spec.cameras)}")
        at = self.frame_rows
        if len(at) == 0 or at[0] != 0 or np.any(np.diff(at) <= 0) or at[-1] >= rows:
            raise ValueError(f"frame_rows must increase from 0 and stay below {rows}, got {at}")
        expected = (len(at), spec.height, spec.width, 3)
        for camera, frames in self.frames.items():
            if frames.shape != expected or frames.dtype != np.uint8:
                raise ValueError(
                    f"{camera}: frames are {frames.dtype} {frames.shape}, must be uint8 {expected}"
                )


@dataclass
class EpisodeBuffer:
    """Collects rows one by one into an `Episode`. Not shared between threads."""

    columns: dict[str, list[NDArray]] = field(default_factory=dict)
    frames: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    frame_rows: list[int] = field(default_factory=list)
    rows: int = 0

    def add(self, values: Mapping[str, Any], images: Mapping[str, NDArray[np.uint8]] | None = None) -> None:
        """Append one row. values: column name -> value(s). images: given on the rows that have new frames."""
        if images is not None:
            self.frame_rows.append(self.rows)
            for camera, image in images.items():
                self.frames.setdefault(camera, []).append(image)
        for name, value in values.items():
            dtype = np.bool_ if name in FLAGS else np.float32
            self.columns.setdefault(name, []).append(np.atleast_1d(np.asarray(value, dtype)))
        self.rows += 1

    def build(self, task: str, seed: int) -> Episode:
        """The episode so far."""
        return Episode(
            {name: np.stack(rows) for name, rows in self.columns.items()},
            {camera: np.stack(frames) for camera, frames in self.frames.items()},
            np.asarray(self.frame_rows, np.int64),
            task,
            seed,
        )

"""The world models of one evaluation, side by side: loaded, named in figures, shown the same episodes.

Whatever is measured here goes through `WorldModel` and the manifest alone, so that any family can be judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.judging import held_out
from wm_vla_ros.report import Figure
from wm_vla_ros.world_models.manifest import RECORDED
from wm_vla_ros.world_models.protocol import WorldModel

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec

# The picture that belongs to a report, as a PNG.
Draw = Callable[[Path | BinaryIO], None]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Judged:
    """Models by label, of one robot, and the cameras that all of them together look through.

    A label is the model's family, or its name where several are of that family. robot: None for models of
    recorded actions, whose robot nothing here can simulate.
    """

    models: dict[str, WorldModel]
    robot: RobotSpec | None
    cameras: held_out.Cameras

    def simulated(self) -> RobotSpec:
        """The robot. Raises ValueError where nothing here can simulate it."""
        if self.robot is None:
            names = ", ".join(model.manifest.name for model in self.models.values())
            raise ValueError(
                f"{names}: known by recordings alone, and nothing here can simulate the robot; imagination "
                "and plans are judged on a held-out data set (--data), the rest is not"
            )
        return self.robot

    def conditions(self) -> dict[str, Any]:
        """What the figures depend on: which model stands behind which label."""
        manifests = {label: model.manifest for label, model in self.models.items()}
        return {
            "world_model": {label: manifest.name for label, manifest in manifests.items()},
            "encoder_id": {label: manifest.encoder_id for label, manifest in manifests.items()},
        }


def load_judged(names: Sequence[str]) -> Judged:
    """The world models called `names`: each a name in models/ or a folder.

    Raises ModelRefused for a model, ValueError when one is named twice, or they do not fit side by side.
    """
    from wm_vla_ros import world_models
    from wm_vla_ros.robots.spec import load_robot

    if not names:
        raise ValueError("no world model to judge; name one or more")
    models = [world_models.load(name) for name in names]
    manifests = [model.manifest for model in models]
    if any(manifest.action_space == RECORDED for manifest in manifests):
        return _recorded(models)
    for what, found in (("robot", {m.robot for m in manifests}), ("size", _sizes(models))):
        if len(found) != 1:
            raise ValueError(f"models are judged side by side on one {what}, got {sorted(found)}")
    robot = load_robot(manifests[0].robot)
    for manifest in manifests:
        manifest.check_robot(robot)
    cameras = tuple(sorted({camera for manifest in manifests for camera in manifest.cameras}))
    return Judged(label(models), robot, held_out.Cameras(cameras, *_sizes(models).pop()))


def label(models: Sequence[WorldModel]) -> dict[str, WorldModel]:
    """Models by family, or by name where a family is there more than once. Raises ValueError on a twin."""
    families = Counter(model.manifest.family for model in models)
    labels = [m.manifest.family if families[m.manifest.family] == 1 else m.manifest.name for m in models]
    twins = [name for name, count in Counter(labels).items() if count > 1]
    if twins:
        raise ValueError(f"world models to compare need names of their own, got more than one {twins[0]!r}")
    return dict(zip(labels, models, strict=True))


def named(prefix: str, figures: Iterable[Figure]) -> list[Figure]:
    """The figures, their names behind `prefix` and a dot."""
    return [replace(figure, name=f"{prefix}.{figure.name}") for figure in figures]


def record_or_load(
    judged: Judged, data: Path | None, episodes: int, progress: Progress = lambda share, note: None
) -> EpisodeArrays:
    """The data set `data`, or `episodes` each of reach, push and play in scenes that no training saw.

    Raises ValueError for a data set that one of the models was trained on.
    """
    from wm_vla_ros.data.lerobot_reader import load_episodes

    if data is None:
        total = episodes * len(held_out.KINDS)
        return held_out.record(
            episodes,
            judged.simulated().name,
            judged.cameras,
            lambda done: progress(done / total, f"episode {done} of {total}"),
        )
    for model in judged.models.values():
        manifest = model.manifest
        if data.name in manifest.dataset:
            raise ValueError(
                f"{data.name} is what {manifest.name} was trained on: {', '.join(manifest.dataset)}"
            )
    return load_episodes(data, judged.cameras.names)


def record_probe_scenes(judged: Judged, progress: Progress = lambda share, note: None) -> EpisodeArrays:
    """Play in many scenes, which linear probes are fitted on."""
    scenes = held_out.PROBE_SCENES
    return held_out.record_probe_scenes(
        judged.simulated().name,
        judged.cameras,
        lambda done: progress(done / scenes, f"probe scene {done} of {scenes}"),
    )


def part(progress: Progress, first: float, last: float) -> Progress:
    """Progress of a part of the work, which lies between these two shares of the whole.

    Never beyond the last, as round-off would have it: 0.3 + (0.9 - 0.3) is more than 0.9.
    """
    return lambda share, note: progress(min(last, first + (last - first) * share), note)


def spread(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the values, evenly spread."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).astype(np.int64)]


def _recorded(models: Sequence[WorldModel]) -> Judged:
    """Models of recorded actions, all of one robot and one state. Nothing is rendered for them."""
    shapes = {(m.manifest.robot, m.manifest.actions, m.manifest.proprio_names, m.dt) for m in models}
    if len(shapes) != 1:
        names = sorted(model.manifest.name for model in models)
        raise ValueError(f"models are judged side by side on one robot's actions and state, got {names}")
    cameras = tuple(sorted({camera for model in models for camera in model.manifest.cameras}))
    return Judged(label(models), None, held_out.Cameras(cameras, 0, 0))


def _sizes(models: Sequence[WorldModel]) -> set[tuple[int, int]]:
    return {tuple(size) for model in models for size in model.manifest.cameras.values()}

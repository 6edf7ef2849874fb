"""Data sets of recorded and imagined demonstrations: which recorded ones, by which model, and where from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros import world_models
from wm_vla_ros.data.latent_episodes import LatentEpisodes, Provenance, joined, write_latent_episodes
from wm_vla_ros.data.lerobot_features import fingerprint
from wm_vla_ros.data.lerobot_reader import EpisodeArrays, load_episodes
from wm_vla_ros.data.lerobot_writer import refuse_existing
from wm_vla_ros.lab.imagined_demonstrations import Progress, encode_demonstrations, imagine
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.world_models.manifest import read_manifest
from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel


@dataclass(frozen=True)
class Source:
    """A recording of demonstrations and the model that is to imagine more of them."""

    model: TorchWorldModel
    data: EpisodeArrays
    name: str
    sha256: str

    @classmethod
    def open(cls, dataset: Path, world_model: str) -> Source:
        """Raises ModelRefused for a model without torch weights, ValueError for data that do not fit."""
        folder = find(world_model)
        manifest = read_manifest(folder)
        model = world_models.load(folder.absolute(), load_robot(manifest.robot), runtime="torch")
        assert isinstance(model, TorchWorldModel)
        data = load_episodes(dataset, tuple(manifest.cameras))
        return cls(model, data, dataset.name, fingerprint(dataset))

    def demonstrations(self, seed: int) -> NDArray[np.int64]:
        """Successful episodes in a random order in which the instructions take turns.

        Raises ValueError when none succeeded: what is to be imitated must have come off.
        """
        done = np.flatnonzero(self.data.success[self.data.starts[1:] - 1])
        if len(done) == 0:
            raise ValueError(f"{self.name} has no episode that ends in success; demonstrations are needed")
        order = np.random.default_rng(seed).permutation(done)
        task = self.data.episode_tasks[order]
        turn = np.array([np.sum(task[:place] == task[place]) for place in range(len(task))])
        return order[np.argsort(turn, kind="stable")]

    def chosen(self, count: int, seed: int) -> NDArray[np.int64]:
        """The first `count` of `demonstrations`. Raises ValueError when there are fewer."""
        there = self.demonstrations(seed)
        if not 1 <= count <= len(there):
            raise ValueError(
                f"demonstrations must be between 1 and {len(there)}, which {self.name} has, got {count}"
            )
        return there[:count]

    def encoded(self, episodes: NDArray[np.int64], seed: int) -> LatentEpisodes:
        """Those episodes as the model sees them. seed: of what will be imagined of them."""
        manifest = self.model.manifest
        provenance = Provenance(
            self.name, self.sha256, manifest.name, manifest.encoder_id, manifest.files[WEIGHTS_FILE], seed
        )
        return encode_demonstrations(self.model, self.data, episodes, provenance)


def make(
    dataset: Path,
    world_model: str,
    out: Path,
    times: int,
    demos: int | None = None,
    seed: int = 0,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Write `demos` recorded demonstrations (None: all that succeeded) and `times` as many imagined to `out`.

    Raises FileExistsError when `out` exists, and what `Source` and `imagine` raise.
    """
    refuse_existing(out)
    source = Source.open(dataset, world_model)
    episodes = source.demonstrations(seed) if demos is None else source.chosen(demos, seed)
    recorded = source.encoded(episodes, seed)
    imagined = imagine(
        source.model, recorded, times, seed, lambda share, note: progress(0.2 + 0.7 * share, note)
    )
    write_latent_episodes(out, joined([recorded, imagined]))
    progress(1.0, "written")
    told = {"dataset": source.name, "world_model": world_model, "times": times, "seed": seed, "out": str(out)}
    return Report("data imagine", {**told, **conditions()}, tuple(figures_of(recorded, imagined)))


def figures_of(recorded: LatentEpisodes, imagined: LatentEpisodes) -> Sequence[Figure]:
    """How much was imagined, and of what."""
    foreign = imagined.motion[imagined.starts[:-1], 0] != imagined.scene[imagined.starts[:-1], 0]
    return [
        Figure("imagine.recorded_episodes", recorded.episodes),
        Figure("imagine.recorded_rows", len(recorded.age)),
        Figure("imagine.episodes", imagined.episodes),
        Figure("imagine.rows", len(imagined.age)),
        Figure("imagine.other_scene", float(foreign.mean()), "", imagined.episodes),
    ]

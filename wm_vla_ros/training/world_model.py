"""Training of a world model, from data sets to a folder in models/ with a report on held-out episodes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays, concatenate, load_episodes
from wm_vla_ros.evaluation.imagination import Imagination, plot
from wm_vla_ros.report import Figure, Report, as_object, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.sequences import split
from wm_vla_ros.training.world_model_trainer import Budget, TrainConfig, Trainer
from wm_vla_ros.world_models.export import Provenance, export
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, ModelRefused, is_plain_name

REPORT_FILE, PLOT_FILE = "report.json", "report.png"
# Windows of held-out and frames of training episodes that the report is made from.
_WINDOWS, _PROBED = 2000, 3000

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class WorldModelTraining:
    """How to train. Exactly one of steps and minutes.

    With `steps` and one thread on a CPU the result depends on the data and the seed alone. held_out: share
    of the episodes that no training sees. cameras: what the encoder looks at.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    cameras: tuple[str, ...] = ("front",)
    held_out: float = 0.04
    stages: TrainConfig = field(default_factory=TrainConfig)


def train(
    datasets: Sequence[Path],
    out: Path,
    training: WorldModelTraining,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Train on all of `datasets` and write the model, its report and plot to the folder `out`.

    progress: called with the share done and a note. Raises FileExistsError when `out` holds a model already,
    ModelRefused when its name is no plain name, ValueError for data or options that do not fit.
    """
    budget = Budget(training.steps, training.minutes)
    if not is_plain_name(out.name):
        raise ModelRefused(f"world model: expected a folder with a plain name, found {out.name!r}")
    if (out / MANIFEST_NAME).exists():
        raise FileExistsError(f"{out} holds a model already; a model is never overwritten: give another path")
    data = concatenate([load_episodes(root, training.cameras) for root in datasets])
    robot = load_robot(data.robot)
    torch.set_num_threads(training.threads)
    device = _device(training.device)
    used, held_out = split(data, training.held_out, training.seed)
    trainer = Trainer(data, used, training.cameras, training.stages, training.seed, device)
    trainer.run(budget, progress)
    export(
        trainer.model.cpu(),
        out,
        robot,
        data.state_names,
        trainer.names,
        Provenance(tuple(root.name for root in datasets), "Apache-2.0", _command(datasets, out, training)),
    )
    imagination = Imagination(world_models.load(out.absolute(), robot), data, held_out, _WINDOWS)
    figures = (
        Figure("train.steps", len(trainer.history)),
        Figure("train.loss", trainer.final_loss()),
        Figure("train.parameters", sum(p.numel() for p in trainer.model.parameters())),
        *imagination.figures(data, _probe_rows(data, used, training.seed)),
    )
    stages = {"steps": {name: int(n) for name, n in trainer.steps().items()}}
    report = Report(
        "train world-model",
        {**asdict(training), **stages, "device": device, "episodes": len(used), **conditions()},
        figures,
    )
    (out / REPORT_FILE).write_text(json.dumps(as_object(report), indent=2) + "\n", encoding="utf-8")
    plot(imagination, out / PLOT_FILE)
    return report


def _device(name: str) -> str:
    if name not in ("cpu", "cuda", "auto"):
        raise ValueError(f"unknown device {name!r}; valid: cpu, cuda, auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': there is none here; use 'cpu' or 'auto'")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _probe_rows(data: EpisodeArrays, episodes: np.ndarray, seed: int) -> np.ndarray:
    rows = data.frame_rows[np.isin(data.row_episode()[data.frame_rows], episodes)]
    return np.random.default_rng(seed).choice(rows, min(_PROBED, len(rows)), replace=False)


def _command(datasets: Sequence[Path], out: Path, training: WorldModelTraining) -> str:
    """The command line that repeats this training; folders by their names alone."""
    length = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    words = ["wm-vla", "train", "world-model"]
    for root in datasets:
        words += ["--dataset", root.name]
    words += ["--output", out.name, length[0], str(length[1]), "--seed", str(training.seed)]
    return shlex.join([*words, "--cameras", ",".join(training.cameras)])

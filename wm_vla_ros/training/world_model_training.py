"""Training of a world model, from data sets to a folder in models/ with a report on held-out episodes."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_vla_ros import __version__, world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays, concatenate, load_episodes
from wm_vla_ros.data.sequences import split
from wm_vla_ros.judging.head_judge import spread_figures
from wm_vla_ros.judging.imagination import Imagination
from wm_vla_ros.judging.imagination_plot import plot
from wm_vla_ros.report import Figure, Report, as_object, conditions
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec, available_robots, load_robot
from wm_vla_ros.training.devices import chosen_precision
from wm_vla_ros.training.run_folder import SUFFIX, RunFolder
from wm_vla_ros.training.start_from import take_vision, take_weights, vision_weights
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.world_model_loss import LossConfig
from wm_vla_ros.training.world_model_trainer import Trainer
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.export import Provenance, export
from wm_vla_ros.world_models.families import family_class
from wm_vla_ros.world_models.family import LatentWorldModel
from wm_vla_ros.world_models.manifest import (
    MANIFEST_NAME,
    ModelRefused,
    RecordedActions,
    RecordedRobot,
    is_plain_name,
)
from wm_vla_ros.world_models.modules import ModelConfig

REPORT_FILE, PLOT_FILE = "report.json", "report.png"
# Windows of held-out and frames of training episodes that the report is made from.
_WINDOWS, _PROBED = 2000, 3000

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class WorldModelTraining:
    """How to train. Exactly one of steps and minutes.

    With `steps`, one thread on a CPU and one precision the result depends on the data and the seed alone.
    held_out: share of the episodes that no training sees. cameras: what the encoder looks at, None for all
    that the data have. family: of `world_models.FAMILIES`. vision_from: world model, by name or folder,
    whose vision to go on from. start_from: world model of the family, by name or folder, to go on from whole:
    its encoder stays as it is, and the whole budget is the last stage's; with `thaw` the encoder trains on
    too, in the joint stage before it. backbone: frozen vision instead of one to train, by the names of
    `world_models.backbones`; jepa alone. checkpoint_every: steps from one checkpoint to the next.
    """

    family: str = "latent_dynamics"
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    vision_from: str | None = None
    start_from: str | None = None
    thaw: bool = False
    backbone: str | None = None
    cameras: tuple[str, ...] | None = None
    held_out: float = 0.04
    stages: TrainConfig = field(default_factory=TrainConfig)
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        """Raises ValueError for an interval below 1, two sources of vision, or an encoder that none has."""
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every: expected at least 1 step, got {self.checkpoint_every}")
        if self.start_from is not None and (self.vision_from or self.backbone):
            raise ValueError(
                "start_from: a whole model has its own vision; give no vision_from and no backbone"
            )
        if self.thaw and self.start_from is None:
            raise ValueError("thaw: only the encoder of start_from is at rest, and start_from is missing")

    @classmethod
    def from_object(cls, raw: dict[str, Any]) -> WorldModelTraining:
        """What `dataclasses.asdict` and JSON made of one. Raises ModelRefused when it is no such thing."""
        try:
            own = dict(raw["stages"])
            for name in ("encoder", "joint", "dynamics"):
                own[name] = Stage(**own[name])
            own |= {"loss": LossConfig(**own["loss"]), "strides": tuple(own["strides"])}
            cameras = None if raw["cameras"] is None else tuple(raw["cameras"])
            return cls(**(raw | {"stages": TrainConfig(**own), "cameras": cameras}))
        except (TypeError, KeyError) as error:
            raise ModelRefused(f"run: expected the options of this version, found {error}") from error


def train(
    datasets: Sequence[Path],
    out: Path,
    training: WorldModelTraining,
    progress: Progress = lambda share, note: None,
) -> Report | None:
    """Train on all of `datasets` and write the model, its report and plot to the folder `out`.

    Beside it, in `out`.run, the run: options, metrics, checkpoints. progress: called with the share done and
    a note. None in the processes that only take part. Raises FileExistsError when `out` holds a model
    already, or a run is there, ModelRefused for an unknown family or when `out`'s name is no plain name,
    ValueError for data or options that do not fit, Diverged where training does.
    """
    Budget(training.steps, training.minutes)
    _family(training)
    precision = chosen_precision(training.stages.precision, _device(training.device))
    # What was chosen here is what a run that goes on elsewhere, or the command that repeats it, has to take.
    training = replace(training, stages=replace(training.stages, precision=precision))
    if not is_plain_name(out.name):
        raise ModelRefused(f"world model: expected a folder with a plain name, found {out.name!r}")
    if (out / MANIFEST_NAME).exists():
        raise FileExistsError(f"{out} holds a model already; a model is never overwritten: give another path")
    path = out.with_name(out.name + SUFFIX)
    task = _Task.of(datasets, out, training)
    config = {
        "version": __version__,
        "datasets": [str(root.absolute()) for root in datasets],
        "output": str(out.absolute()),
        "seed": training.seed,
        "data_sha256": task.data_sha256,
        "training": asdict(training),
    }
    writes = task.trainer.devices.main
    with RunFolder.create(path, config, training.checkpoint_every, writes) as folder:
        return task.finish(folder, progress)


def resume(run: Path, progress: Progress = lambda share, note: None) -> Report | None:
    """Go on with a training that was interrupted, from the run folder that it left, to its end.

    Raises ModelRefused when there is no such run, it still runs or is finished, its data have changed, or
    none of its checkpoints is sound; else as `train`.
    """
    config = RunFolder.read_config(run)
    try:
        training = WorldModelTraining.from_object(config["training"])
        datasets, out = [Path(root) for root in config["datasets"]], Path(config["output"])
        expected = config["data_sha256"]
    except (KeyError, TypeError) as error:
        raise ModelRefused(f"{run}: expected the options of a training, found {error!r}") from error
    task = _Task.of(datasets, out, training)
    if task.data_sha256 != expected:
        raise ModelRefused(
            f"{run}: expected the data that it began with, {expected}, found {task.data_sha256}"
        )
    with RunFolder(run, config, training.checkpoint_every, task.trainer.devices.main) as folder:
        task.trainer.devices.wait()
        checkpoint, history, refused = folder.newest()
        for reason in refused:
            progress(0.0, f"checkpoint refused, an older one is used: {reason}")
        if checkpoint is not None:
            task.trainer.restore(checkpoint, history)
        return task.finish(folder, progress)


@dataclass(frozen=True)
class _Task:
    """One training with all that it needs in memory."""

    datasets: Sequence[Path]
    out: Path
    training: WorldModelTraining
    data: EpisodeArrays
    trainer: Trainer
    used: np.ndarray
    held_out: np.ndarray

    @classmethod
    def of(cls, datasets: Sequence[Path], out: Path, training: WorldModelTraining) -> _Task:
        data = concatenate([load_episodes(root, training.cameras) for root in datasets])
        cameras = tuple(data.images)
        device = _device(training.device)
        used, held_out = split(data, training.held_out, training.seed)
        family = _family(training)
        stages = training.stages.going_on(training.thaw) if training.start_from else training.stages
        trainer = Trainer(data, used, cameras, stages, training.seed, device, family)
        torch.set_num_threads(training.threads)  # after Accelerate, which has a number of its own
        if training.vision_from:
            take_vision(trainer.model, vision_weights(training.vision_from, robot_of(data), cameras))
        if training.start_from:
            take_weights(trainer.model, training.start_from, robot_of(data), cameras)
        return cls(datasets, out, training, data, trainer, used, held_out)

    @property
    def data_sha256(self) -> str:
        """Of all rows; images are told apart by nothing."""
        digest = hashlib.sha256(repr((self.data.state_names, self.data.action_names, self.data.dt)).encode())
        for name in ("starts", "frame_rows", "episode_tasks", "states", "actions", "environment", "success"):
            digest.update(np.ascontiguousarray(getattr(self.data, name)).tobytes())
        return digest.hexdigest()

    def finish(self, folder: RunFolder, progress: Progress) -> Report | None:
        """Train to the end, export, judge."""
        training, trainer, out, data = self.training, self.trainer, self.out, self.data
        told = progress if trainer.devices.main else lambda share, note: None
        trainer.run(Budget(training.steps, training.minutes), told, folder)
        if not trainer.devices.main:
            return None
        provenance = Provenance(
            tuple(root.name for root in self.datasets),
            "Apache-2.0",
            _command(self.datasets, out, training, data),
        )
        robot = robot_of(data)
        export(trainer.model.cpu(), out, robot, data.state_names, trainer.names, provenance)
        checked = robot if isinstance(robot, RobotSpec) else None
        imagination = Imagination(world_models.load(out.absolute(), checked), data, self.held_out, _WINDOWS)
        figures = (
            Figure("train.steps", len(trainer.history)),
            Figure("train.minutes", trainer.seconds / 60.0, "min"),
            Figure("train.loss", trainer.final_loss()),
            Figure("train.parameters", sum(p.numel() for p in trainer.model.parameters())),
            *(Figure(name, value) for name, value in trainer.held_out(self.held_out).items()),
            *imagination.figures(data, _probe_rows(data, self.used, training.seed)),
            *spread_figures(imagination.model, data, self.held_out),
        )
        stages = {
            "steps": {name: int(n) for name, n in trainer.steps().items()},
            "options": trainer.model.options(),
            "untaught": list(trainer.model.untaught(data)),
            "cameras": list(data.images),
            "processes": trainer.devices.count,
        }
        report = Report(
            "train world-model",
            {
                **asdict(training),
                **stages,
                "device": trainer.device.type,
                "episodes": len(self.used),
                **conditions(),
            },
            figures,
        )
        text = json.dumps(as_object(report), indent=2) + "\n"
        (out / REPORT_FILE).write_text(text, encoding="utf-8")
        plot({training.family: imagination}, figures, out / PLOT_FILE)
        folder.finish(as_object(report))
        return report


def robot_of(data: EpisodeArrays) -> RobotSpec | RecordedRobot:
    """The robot whose actions and proprioception these are, or what the data themselves say of theirs.

    A robot described here is taken for it only where names of actions and state and the rate are its own: a
    teleoperated SO-101 with joint actions is another robot to a planner.
    """
    if data.robot in available_robots():
        robot = load_robot(data.robot)
        own = data.action_names == EE_ACTION_NAMES and data.state_names == proprio_names(robot)
        if own and np.isclose(data.dt, robot.dt):
            return robot
    low, high = data.actions.min(0).tolist(), data.actions.max(0).tolist()
    spread = data.actions.std(0, dtype=np.float64).tolist()
    actions = RecordedActions(data.action_names, tuple(low), tuple(high), tuple(spread))
    return RecordedRobot(data.robot, data.dt, actions)


def _family(training: WorldModelTraining) -> Callable[[ModelConfig], LatentWorldModel]:
    """What makes the model. Raises ModelRefused for an unknown family, ValueError for a useless backbone."""
    family = family_class(training.family)
    if training.backbone is None:
        return family
    if training.family != "jepa":
        raise ValueError(f"backbone: family jepa alone takes one, got {training.family}")
    if training.vision_from is not None:
        raise ValueError("backbone and vision_from: a frozen vision goes on from nothing; give one of them")
    from wm_vla_ros.world_models.jepa import Jepa, JepaOptions

    return partial(Jepa, options=JepaOptions(backbone=training.backbone))


def _device(name: str) -> str:
    if name not in ("cpu", "cuda", "auto"):
        raise ValueError(f"unknown device {name!r}; valid: cpu, cuda, auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': there is none here; use 'cpu' or 'auto'")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _probe_rows(data: EpisodeArrays, episodes: np.ndarray, seed: int) -> np.ndarray:
    rows = data.frame_rows[np.isin(data.row_episode()[data.frame_rows], episodes)]
    return np.random.default_rng(seed).choice(rows, min(_PROBED, len(rows)), replace=False)


def _command(datasets: Sequence[Path], out: Path, training: WorldModelTraining, data: EpisodeArrays) -> str:
    """The command line that repeats this training; folders by their names alone."""
    length = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    words = ["wm-vla", "train", "world-model"]
    if training.family != WorldModelTraining.family:
        words += ["--family", training.family]
    for root in datasets:
        words += ["--dataset", root.name]
    if training.vision_from:
        words += ["--vision-from", Path(training.vision_from).name]
    if training.start_from:
        words += ["--start-from", Path(training.start_from).name, *(["--thaw"] if training.thaw else [])]
    if training.backbone:
        words += ["--backbone", training.backbone]
    words += ["--output", out.name, length[0], str(length[1]), "--seed", str(training.seed)]
    words += ["--cameras", ",".join(data.images) or "none"]
    stages, usual = training.stages, TrainConfig()
    if stages.strides:
        words += ["--strides", ",".join(map(str, stages.strides))]
    if not stages.autoregressive:
        words += ["--teacher-forcing"]
    for name in ("priority", "imagined", "precision"):
        if getattr(stages, name) != getattr(usual, name):
            words += [f"--{name}", str(getattr(stages, name))]
    return shlex.join(words)

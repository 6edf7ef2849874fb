"""Fine-tuning of a trained policy's head in the imagination of a frozen world model, folder to folder."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros import world_models
from wm_vla_ros.data.episode import SUCCESS
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import split
from wm_vla_ros.judging.encodings import check_layout, encode_rows
from wm_vla_ros.lab.actor_critic_training import action_range
from wm_vla_ros.lab.head_dream import (
    GOALS,
    PATH,
    ChunkDream,
    DemonstrationPaths,
    HeadLearning,
    learn,
    path_baseline,
)
from wm_vla_ros.lab.policy_head_judge import figures
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.policy_data import ChunkSamples, load_demonstrations, samples_of
from wm_vla_ros.training.policy_files import policy_folder, read_stats, save_policy
from wm_vla_ros.training.policy_training import prepare
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy
from wm_vla_ros.vla.policy import IMAGE_PREFIX
from wm_vla_ros.vla.policy_manifest import PolicyRefused, read_manifest
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, sha256_of
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

# Types of policies whose head can be told from what it is told.
WITH_A_HEAD = ("keypoint_chunk",)
_BATCH = 256

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class PolicyHeadTraining:
    """How to train: the result depends on the data, these numbers and one thread alone.

    goal: of GOALS. frames: of the demonstrations to learn from, about. held_out: share of the episodes that
    no training sees. The rest: `HeadLearning`.
    """

    steps: int = 1000
    seed: int = 0
    threads: int = 1
    goal: str = PATH
    frames: int = 20000
    held_out: float = 0.1
    batch: int = 64
    learning_rate: float = 3e-4
    proximal: float = 1.0
    smooth: float = 1.0

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise ValueError(f"unknown goal {self.goal!r}; valid: {', '.join(GOALS)}")

    @property
    def learning(self) -> HeadLearning:
        names = HeadLearning.__dataclass_fields__
        return HeadLearning(**{name: value for name, value in asdict(self).items() if name in names})


def train(
    datasets: Sequence[Path],
    policy: str,
    world_model: str,
    out: Path,
    training: PolicyHeadTraining,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Fine-tune the head of `policy` on successful demonstrations; write the policy to the new folder `out`.

    Raises FileExistsError when `out` exists, PolicyRefused for a policy without such a head, ModelRefused for
    a world model without torch weights, ValueError for data that do not fit them or hold no success.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already; a policy is never overwritten: give another path")
    torch.set_num_threads(training.threads)
    base, model_folder = policy_folder(Path(policy)), find(world_model)
    net, stats = open_base(base), read_stats(base)
    model = world_models.load(model_folder.absolute(), runtime="torch")
    assert isinstance(model, TorchWorldModel)
    looked_at = [key.removeprefix(IMAGE_PREFIX) for key in net.config.image_features]
    data = load_demonstrations(datasets, sorted({*looked_at, *model.manifest.cameras}))
    check_fit(base, net, model, data)
    used, held_out = _episodes(data, training)
    seen = _look(net, stats, model, samples_of(data, used, net.config.chunk_size), progress)
    unseen = _look(net, stats, model, samples_of(data, held_out, net.config.chunk_size), progress)
    low, high = action_range(data, used)
    mean, std = (torch.from_numpy(stats["action"][name].astype(np.float32)) for name in ("mean", "std"))
    dream = ChunkDream(
        model.dynamics,
        mean,
        std,
        *map(torch.from_numpy, (low, high)),
        training.goal,
        path_baseline(seen, training.goal),
    )
    before = _chunks(net, unseen)
    learn(net.model, dream, seen, training.learning, lambda share, note: progress(0.4 + 0.55 * share, note))
    progress(0.95, "judging")
    found = figures(before, _chunks(net, unseen), dream, unseen, model, std)
    told = {
        **asdict(training),
        "base_policy": base.name,
        "base_policy_sha256": sha256_of((base / "model.safetensors").read_bytes()),
        "world_model": model_folder.name,
        "world_model_sha256": sha256_of((model_folder / MANIFEST_NAME).read_bytes()),
        "encoder_id": model.encoder_id,
    }
    counts = (
        Figure(
            "head.parameters",
            sum(p.numel() for n in net.model.HEAD for p in getattr(net.model, n).parameters()),
        ),
        Figure("head.frames", len(seen.samples)),
        Figure("head.held_out_episodes", len(held_out)),
    )
    command = _command(datasets, base, model_folder, out, training)
    report = Report("train policy-head", {**told, "command": command, **conditions()}, (*counts, *found))
    save_policy(out, net, stats, data, datasets, told, command, report)
    return report


def open_base(folder: Path) -> KeypointChunkPolicy:
    """The policy to start from. Raises PolicyRefused for another type, or files that were altered."""
    kind = json.loads((folder / "config.json").read_text()).get("type")
    if kind not in WITH_A_HEAD:
        raise PolicyRefused(
            f"{folder.name}: policy type {kind!r} has no head that learns apart from what it sees; "
            f"valid: {', '.join(WITH_A_HEAD)}"
        )
    manifest = read_manifest(folder)
    if manifest is not None:
        manifest.check_robot(load_robot(manifest.robot))
    with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints; stdout belongs to the command's result
        return KeypointChunkPolicy.from_pretrained(folder).eval()


def check_fit(folder: Path, policy: KeypointChunkPolicy, model: TorchWorldModel, data: EpisodeArrays) -> None:
    """Raises ValueError naming what of policy, world model and data set is not of one kind."""
    check_layout(model, data)
    model.manifest.check_robot(load_robot(model.manifest.robot))
    manifest = read_manifest(folder)
    state, action = policy.config.robot_state_feature, policy.config.action_feature
    assert state is not None
    assert action is not None
    shapes = {
        key: (
            (3, *data.images[key.removeprefix(IMAGE_PREFIX)][np.array([0])].shape[1:3]),
            tuple(feature.shape),
        )
        for key, feature in policy.config.image_features.items()
    }
    for name, found, expected in (
        ("robot", data.robot, data.robot if manifest is None else manifest.robot),
        ("seconds per row", data.dt, model.dt),
        ("observation.state", data.states.shape[1:], tuple(state.shape)),
        ("action", data.actions.shape[1:], tuple(action.shape)),
        *((key, *pair) for key, pair in shapes.items()),
    ):
        if found != expected:
            raise ValueError(f"{name}: the policy {folder.name} has {expected}, the data set {found}")
    policy.tokens(data.tasks)


def _episodes(
    data: EpisodeArrays, training: PolicyHeadTraining
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Successful episodes to learn from and to be judged on, as many as there are frames for."""
    succeeded = data.success[data.starts[1:] - 1]
    if not succeeded.any():
        raise ValueError(
            f"no episode of the data sets ends in success ({SUCCESS}): nothing says which end was asked for"
        )
    parts = []
    for part in split(data, training.held_out, training.seed):
        part = part[succeeded[part]]
        if not len(part):
            raise ValueError(f"{int(succeeded.sum())} episodes end in success, too few to hold some out")
        # What is judged is a tenth of what is learned from at most, in a random order.
        share = training.held_out if parts else 1.0
        order = np.random.default_rng(training.seed).permutation(part)
        frames = np.bincount(data.row_episode()[data.frame_rows], minlength=data.episodes)[order].cumsum()
        parts.append(np.sort(order[: max(1, np.searchsorted(frames, share * training.frames, side="right"))]))
    return parts[0], parts[1]


@torch.no_grad()
def _look(
    policy: KeypointChunkPolicy,
    stats: Mapping[str, Any],
    model: TorchWorldModel,
    samples: ChunkSamples,
    progress: Progress,
) -> DemonstrationPaths:
    """Let policy and world model look at every frame, once."""
    features, latents = [], []
    for start in range(0, len(samples), _BATCH):
        picks = np.arange(start, min(start + _BATCH, len(samples)))
        features.append(policy.features(prepare(samples.batch(picks), dict(stats), "cpu")))
        latents.append(encode_rows(model, samples.data, samples.rows[picks]))
        progress(0.4 * start / len(samples), "looking at the frames")
    return DemonstrationPaths.of(samples, torch.cat(features), np.concatenate(latents))


@torch.no_grad()
def _chunks(policy: KeypointChunkPolicy, ways: DemonstrationPaths) -> Tensor:
    return torch.cat([policy.model.head(part) for part in ways.features.split(4096)])


def _command(
    datasets: Sequence[Path], base: Path, model: Path, out: Path, training: PolicyHeadTraining
) -> str:
    """The command line that repeats this training; folders by their names alone."""
    words = ["wm-vla", "train", "policy-head", "--policy", base.name, "--world-model", model.name]
    for root in datasets:
        words += ["--dataset", root.name]
    words += ["--output", out.name, "--steps", str(training.steps), "--goal", training.goal]
    return shlex.join([*words, "--proximal", str(training.proximal), "--seed", str(training.seed)])

"""Training of a goal encoder on a frozen world model: which latent a picture alone belongs to.

It is regressed on the latents that the world model's own encoder makes of the same frames with the measured
proprioception, and so gives their mean over all that the picture leaves open; no world model is changed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays, concatenate, load_episodes
from wm_vla_ros.data.sequences import frames, positions, split
from wm_vla_ros.goals.goal_image import GOAL_ENCODER_FILE, GOAL_PRECISION_FILE, GoalEncoder
from wm_vla_ros.judging.encodings import check_layout, encode_rows, things
from wm_vla_ros.report import Figure, Report, as_object, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.start_from import vision_weights
from wm_vla_ros.training.world_model_loss import augment
from wm_vla_ros.world_models.export import onnx_of
from wm_vla_ros.world_models.manifest import (
    MANIFEST_NAME,
    Manifest,
    ModelRefused,
    is_plain_name,
    read_files,
    read_manifest,
    sha256_of,
    write_model,
)
from wm_vla_ros.world_models.modules import Vision
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.registry import find

REPORT_FILE = "goal_encoder_report.json"
_HIDDEN = 256
# Metres of a grounded position that weigh as much as one unit of a latent entry, and their weight.
_METRES, _GROUNDED = 0.005, 0.1

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class GoalEncoderTraining:
    """How to train: the result depends on the data, these numbers and one thread alone.

    frames: of the data to learn from at most. held_out: share of the episodes that no training sees.
    vision_from: world model whose trained vision to go on from, by name or folder; None: the model's own.
    """

    steps: int = 1200
    seed: int = 0
    threads: int = 1
    batch: int = 64
    frames: int = 12000
    held_out: float = 0.1
    learning_rate: float = 1e-3
    vision_from: str | None = None


class GoalImageEncoder(nn.Module):
    """Images of all cameras, (B, H, W, 3) uint8 each, in the manifest's order -> latents (B, D)."""

    def __init__(self, manifest: Manifest, vision: dict[str, Tensor]) -> None:
        """Raises ModelRefused when the weights are not those of this kind of vision."""
        super().__init__()
        try:
            channels, keypoints = len(vision["0.trunk.0.weight"]), len(vision["0.heads.weight"])
            sizes = manifest.cameras.values()
            self.vision = nn.ModuleList(Vision(*size, channels, keypoints) for size in sizes)
            self.vision.load_state_dict(vision)
        except (KeyError, RuntimeError) as error:
            raise ModelRefused(
                f"vision: expected the cameras' own convolutions, found {' '.join(str(error).split())}; "
                "name a model that has them as the one to take vision from"
            ) from error
        features = sum(camera.features for camera in self.vision)
        self.linear = nn.Linear(features, manifest.latent_dim)
        self.mlp = nn.Sequential(
            nn.Linear(features, _HIDDEN),
            nn.LayerNorm(_HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, manifest.latent_dim),
        )

    def forward(self, *images: Tensor) -> Tensor:
        seen = torch.cat([camera(image) for camera, image in zip(self.vision, images, strict=True)], 1)
        return self.linear(seen) + self.mlp(seen)


def train(
    datasets: Sequence[Path],
    world_model: str,
    out: Path,
    training: GoalEncoderTraining,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Train on all of `datasets`; write the world model with a goal encoder, and a report, to `out`.

    Everything else is the model's own, byte by byte. Raises FileExistsError when `out` holds a model already,
    ModelRefused for a world model or a folder name, ValueError for data that do not fit.
    """
    if not is_plain_name(out.name):
        raise ModelRefused(f"world model: expected a folder with a plain name, found {out.name!r}")
    if (out / MANIFEST_NAME).exists():
        raise FileExistsError(f"{out} holds a model already; a model is never overwritten: give another path")
    folder = find(world_model)
    manifest = read_manifest(folder)
    robot = load_robot(manifest.robot)
    model = world_models.load(folder.absolute(), robot)
    cameras = tuple(manifest.cameras)
    vision = vision_weights(training.vision_from or str(folder.absolute()), robot, cameras)
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    net = GoalImageEncoder(manifest, vision)
    data = concatenate([load_episodes(root, cameras) for root in datasets])
    check_layout(model, data)
    used, held_out = split(data, training.held_out, training.seed)
    rng = np.random.default_rng(training.seed)
    rows = _pick(data, used, training.frames, rng)
    unseen = _pick(data, held_out, training.frames // 10, rng)
    progress(0.0, "encoding")
    latents = torch.from_numpy(encode_rows(model, data, rows))
    fit(net, model, data, rows, latents, training, lambda share, note: progress(0.2 + 0.8 * share, note))
    found, truth = _guess(net, data, unseen, cameras), encode_rows(model, data, unseen)
    precision = told(found, truth)
    contents = {
        **read_files(folder, manifest),
        GOAL_ENCODER_FILE: onnx_of(
            net,
            tuple(torch.zeros((1, *size, 3), dtype=torch.uint8) for size in manifest.cameras.values()),
            [f"image_{name}" for name in cameras],
        ),
        GOAL_PRECISION_FILE: save({"precision": torch.from_numpy(precision)}),
    }
    files = {name: sha256_of(content) for name, content in contents.items()}
    manifest = replace(manifest, files=files)
    GoalEncoder(manifest, contents)  # what is written can be read
    write_model(out, contents, manifest)
    report = Report(
        "train goal-encoder",
        {
            **asdict(training),
            "dataset": ",".join(root.name for root in datasets),
            "command": _command(datasets, folder, training),
            "held_out_episodes": len(held_out),
            **conditions(),
        },
        (
            Figure("goal_encoder.parameters", sum(p.numel() for p in net.parameters())),
            *goal_figures(model, data, unseen, found, truth, precision),
        ),
    )
    (out / REPORT_FILE).write_text(json.dumps(as_object(report), indent=2) + "\n", encoding="utf-8")
    return report


def fit(
    net: GoalImageEncoder,
    model: WorldModel,
    data: EpisodeArrays,
    rows: NDArray[np.int64],
    latents: Tensor,
    training: GoalEncoderTraining,
    progress: Progress = lambda share, note: None,
) -> None:
    """Regress the latents (R, D) of `rows` on their images, under other light."""
    rng = np.random.default_rng(training.seed)
    weight = torch.from_numpy(model.ground(np.eye(model.latent_dim, dtype=np.float32)))
    weight = (weight - torch.from_numpy(model.ground(np.zeros((1, model.latent_dim), np.float32)))) / _METRES
    optimiser = torch.optim.AdamW(net.parameters(), training.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, training.steps)
    for step in range(training.steps):
        picked = rng.choice(len(rows), min(training.batch, len(rows)), replace=False)
        images = [
            torch.from_numpy(augment(frames(data, camera, rows[picked]), rng))
            for camera in model.manifest.cameras
        ]
        error = net(*images) - latents[torch.from_numpy(picked)]
        metres = error @ weight
        loss = error.square().mean() + _GROUNDED * F.smooth_l1_loss(metres, torch.zeros_like(metres))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            progress(step / training.steps, f"loss {float(loss.detach()):.3f}")


def told(found: NDArray, truth: NDArray) -> NDArray[np.float32]:
    """(D,) the share of each latent entry's variance that a picture tells: R2 of `found` (F, D), at least 0.

    An entry that never varies tells nothing and gets 0.
    """
    variance = truth.var(0, dtype=np.float64)
    error = np.square(found - truth).mean(0, dtype=np.float64)
    share = 1.0 - error / np.where(variance > 0, variance, 1.0)
    return np.where(variance > 0, np.clip(share, 0.0, 1.0), 0.0).astype(np.float32)


def goal_figures(
    model: WorldModel,
    data: EpisodeArrays,
    rows: NDArray[np.int64],
    found: NDArray[np.float32],
    truth: NDArray[np.float32],
    precision: NDArray[np.float32],
) -> list[Figure]:
    """Of held-out frames: variance of the latent that a picture tells, and metres by which it is off."""
    names = model.grounding_names
    off = model.ground(found) - positions(data)[rows]
    out = [
        Figure(
            "goal_encoder.latent_r2", float(1 - np.square(found - truth).sum() / _spread(truth)), n=len(rows)
        ),
        Figure("goal_encoder.precision_mean", float(precision.mean()), n=len(precision)),
    ]
    for name, columns in things(names).items():
        miss = np.linalg.norm(off[:, columns].reshape(len(rows), -1, 3), axis=2).mean()
        out.append(Figure(f"goal_encoder.{name}_error", float(miss), "m", n=len(rows)))
    return out


def _spread(truth: NDArray[np.float32]) -> float:
    return float(np.square(truth - truth.mean(0)).sum())


def _pick(
    data: EpisodeArrays, episodes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    rows = data.frame_rows[np.isin(data.row_episode()[data.frame_rows], episodes)]
    return np.sort(rng.choice(rows, min(max(1, count), len(rows)), replace=False))


@torch.no_grad()
def _guess(
    net: GoalImageEncoder, data: EpisodeArrays, rows: NDArray[np.int64], cameras: Sequence[str]
) -> NDArray[np.float32]:
    parts = np.array_split(rows, max(1, len(rows) // 256))
    return torch.cat(
        [net(*(torch.from_numpy(frames(data, camera, part)) for camera in cameras)) for part in parts]
    ).numpy()


def _command(datasets: Sequence[Path], folder: Path, training: GoalEncoderTraining) -> str:
    """The command line that repeats this training; folders by their names alone."""
    words = ["wm-vla", "train", "goal-encoder", "--world-model", folder.name]
    for root in datasets:
        words += ["--dataset", root.name]
    if training.vision_from:
        words += ["--vision-from", Path(training.vision_from).name]
    return shlex.join([*words, "--steps", str(training.steps), "--seed", str(training.seed)])

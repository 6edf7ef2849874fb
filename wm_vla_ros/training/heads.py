"""Training of the heads on a frozen world model: temporal distance and expected error of imagination."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import concatenate, load_episodes
from wm_vla_ros.evaluation.heads import HeadData, figures
from wm_vla_ros.report import Figure, Report, as_object, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.sequences import split
from wm_vla_ros.world_models.heads import (
    ERROR,
    HEADS_FILE,
    LAYERS,
    TEMPORAL,
    Heads,
    error_features,
    temporal_features,
)
from wm_vla_ros.world_models.manifest import (
    MANIFEST_NAME,
    ModelRefused,
    is_plain_name,
    read_files,
    read_manifest,
    sha256_of,
    write_model,
)
from wm_vla_ros.world_models.registry import find

REPORT_FILE = "heads_report.json"
_HIDDEN, _BATCH = 128, 256
# Imagination is never right to less than this: what the logarithm of an error starts from, metres.
_LEAST_ERROR = 1e-4

Progress = Callable[[float, str], None]
Done = Callable[[float], None]
Tensors = dict[str, torch.Tensor]
# (member, rng) -> inputs (B, F) and targets (B,) of one batch.
Draw = Callable[[int, np.random.Generator], tuple[NDArray, NDArray]]


@dataclass(frozen=True)
class HeadsTraining:
    """How to train: the result depends on the data, these numbers and one thread alone.

    members: of the error's ensemble. held_out: share of the episodes that no training sees.
    """

    steps: int = 3000
    seed: int = 0
    threads: int = 1
    members: int = 3
    held_out: float = 0.2
    learning_rate: float = 1e-3


def train(
    datasets: Sequence[Path],
    world_model: str,
    out: Path,
    training: HeadsTraining,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Train heads on all of `datasets`; write the world model with them, and a report, to the folder `out`.

    Everything but heads and manifest is the model's own, byte by byte: its latents stay its latents.
    Raises FileExistsError when `out` holds a model already, ModelRefused for a world model or a folder name,
    ValueError for data that do not fit.
    """
    if not is_plain_name(out.name):
        raise ModelRefused(f"world model: expected a folder with a plain name, found {out.name!r}")
    if (out / MANIFEST_NAME).exists():
        raise FileExistsError(f"{out} holds a model already; a model is never overwritten: give another path")
    folder = find(world_model)
    manifest = read_manifest(folder)
    model = world_models.load(folder.absolute(), load_robot(manifest.robot))
    data = concatenate([load_episodes(root, tuple(manifest.cameras)) for root in datasets])
    torch.set_num_threads(training.threads)
    used, held_out = split(data, training.held_out, training.seed)
    progress(0.0, "encoding")
    seen, unseen = (HeadData.of(model, data, episodes) for episodes in (used, held_out))
    tensors = {
        **fit_temporal(seen, training, lambda share: progress(0.4 + 0.3 * share, "temporal distance")),
        **fit_error(seen, training, lambda share: progress(0.7 + 0.3 * share, "error")),
    }
    about = {
        "dataset": ",".join(root.name for root in datasets),
        "command": _command(datasets, folder, training),
    }
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, about)
    contents = {**read_files(folder, manifest), HEADS_FILE: content}
    manifest = replace(manifest, files={**manifest.files, HEADS_FILE: sha256_of(content)})
    write_model(out, contents, manifest)
    report = Report(
        "train heads",
        {
            **asdict(training),
            **about,
            "episodes": len(used),
            "held_out_episodes": len(held_out),
            **conditions(),
        },
        (
            Figure("heads.parameters", sum(tensor.numel() for tensor in tensors.values())),
            *figures(Heads(manifest, content), unseen),
        ),
    )
    (out / REPORT_FILE).write_text(json.dumps(as_object(report), indent=2) + "\n", encoding="utf-8")
    return report


def fit_temporal(data: HeadData, training: HeadsTraining, progress: Done) -> Tensors:
    """Tensors of the temporal distance, by the names that `Heads` reads."""

    def draw(member: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        first, second, ticks = data.pairs(_BATCH, rng)
        return temporal_features(data.latents[first], data.latents[second]), np.log1p(ticks)

    return _fit(TEMPORAL, draw, 1, training, progress)


def fit_error(data: HeadData, training: HeadsTraining, progress: Done) -> Tensors:
    """Tensors of the expected error's ensemble, each member on its own draw of the episodes."""
    inputs = error_features(data.rollouts, data.actions)
    targets = np.log(data.error + _LEAST_ERROR)
    rng = np.random.default_rng(training.seed)
    episodes = np.unique(data.window_episode)
    rows = []
    for _ in range(training.members):  # episodes with replacement: rows of one resemble each other
        drawn = rng.choice(episodes, len(episodes))
        rows.append(np.concatenate([np.flatnonzero(data.window_episode == one) for one in drawn]))

    def draw(member: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        chosen = rng.choice(rows[member], _BATCH)
        return inputs[chosen], targets[chosen]

    return _fit(ERROR, draw, training.members, training, progress)


def _fit(name: str, draw: Draw, members: int, training: HeadsTraining, progress: Done) -> Tensors:
    """Weights (members, in, out) and biases of `members` networks, inputs and targets as they come."""
    rng = np.random.default_rng([training.seed, len(name)])
    torch.manual_seed(training.seed)
    sample, target = (np.concatenate(part) for part in zip(*(draw(0, rng) for _ in range(20)), strict=True))
    mean, scale = sample.mean(axis=0), 1.0 / (sample.std(axis=0) + 1e-6)
    # An input that hardly varies says nothing, and would be blown up.
    scale = np.where(sample.std(axis=0) > 1e-4, scale, 0.0)
    sizes = [sample.shape[1], *[_HIDDEN] * (LAYERS - 1), 1]
    weights, biases = [], []
    for inputs, outputs in pairwise(sizes):
        weights.append(nn.Parameter(torch.randn(members, inputs, outputs) * (2.0 / inputs) ** 0.5))
        biases.append(nn.Parameter(torch.zeros(members, 1, outputs)))
    with torch.no_grad():
        biases[-1] += float(target.mean())
    shift, spread = (torch.from_numpy(each.astype(np.float32)) for each in (mean, scale))
    optimiser = torch.optim.AdamW([*weights, *biases], training.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, training.steps)
    for step in range(training.steps):
        batches = [draw(member, rng) for member in range(members)]
        inputs, wanted = (
            torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*batches, strict=True)
        )
        x = (inputs - shift) * spread
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        loss = F.smooth_l1_loss(torch.baddbmm(biases[-1], x, weights[-1])[..., 0], wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            progress(step / training.steps)
    with torch.no_grad():  # what normalises the inputs becomes part of the first layer
        biases[0] -= ((shift * spread) @ weights[0])[:, None]
        weights[0] *= spread[:, None]
    named = zip(weights, biases, strict=True)
    return {
        f"{name}.{number}.{kind}": tensor.detach()
        for number, pair in enumerate(named)
        for kind, tensor in zip(("weight", "bias"), pair, strict=True)
    }


def _command(datasets: Sequence[Path], folder: Path, training: HeadsTraining) -> str:
    """The command line that repeats this training; folders by their names alone."""
    words = ["wm-vla", "train", "heads", "--world-model", folder.name]
    for root in datasets:
        words += ["--dataset", root.name]
    return shlex.join([*words, "--steps", str(training.steps), "--seed", str(training.seed)])

"""Training of the heads on a frozen world model: temporal distance and expected error of imagination."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import concatenate, load_episodes
from wm_vla_ros.data.sequences import split
from wm_vla_ros.judging.head_judge import HeadData, figures
from wm_vla_ros.report import Figure, Report, as_object, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.world_models.heads import (
    ERROR,
    HEADS_FILE,
    LAYERS,
    TEMPORAL,
    Heads,
    error_features,
)
from wm_vla_ros.world_models.manifest import check_new, read_manifest, write_with
from wm_vla_ros.world_models.registry import find

REPORT_FILE = "heads_report.json"
_HIDDEN, _EMBEDDED, _BATCH = 128, 64, 256
# Standard deviation under which an input counts as constant: it says nothing, and would be blown up.
_CONSTANT = 1e-4
# Imagination is never right to less than this: what the logarithm of an error starts from, metres.
_LEAST_ERROR = 1e-4

Progress = Callable[[float, str], None]
Done = Callable[[float], None]
Tensors = dict[str, Tensor]
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
    check_new(out)
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
    manifest = write_with(out, folder, manifest, HEADS_FILE, content)
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
    torch.manual_seed(training.seed)
    dim = data.latents.shape[1]
    networks = _Networks(1, _EMBEDDED)
    embed = nn.Parameter(torch.randn(1, dim, _EMBEDDED) / dim**0.5)

    def draw(member: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        first, second, ticks = data.pairs(_BATCH, rng)
        return data.latents[first] - data.latents[second], np.log1p(ticks)

    def forward(way: Tensor) -> Tensor:
        return networks((way @ embed).abs())

    _fit(forward, [embed, *networks.parameters], draw, 1, training, progress)
    return {f"{TEMPORAL}.embed": embed.detach(), **networks.tensors(TEMPORAL)}


def fit_error(data: HeadData, training: HeadsTraining, progress: Done) -> Tensors:
    """Tensors of the expected error's ensemble, each member on its own draw of the episodes."""
    torch.manual_seed(training.seed)
    inputs = error_features(data.rollouts, data.actions)
    targets = np.log(data.error + _LEAST_ERROR)
    rng = np.random.default_rng(training.seed)
    episodes = np.unique(data.window_episode)
    rows = []
    for _ in range(training.members):  # episodes with replacement: rows of one resemble each other
        drawn = rng.choice(episodes, len(episodes))
        rows.append(np.concatenate([np.flatnonzero(data.window_episode == one) for one in drawn]))
    deviation = inputs.std(axis=0)
    varies = deviation > _CONSTANT
    scale = torch.from_numpy(np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0).astype(np.float32))
    mean = torch.from_numpy(inputs.mean(axis=0))
    networks = _Networks(training.members, inputs.shape[1])

    def draw(member: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        chosen = rng.choice(rows[member], _BATCH)
        return inputs[chosen], targets[chosen]

    def forward(x: Tensor) -> Tensor:
        return networks((x - mean) * scale)

    _fit(forward, networks.parameters, draw, training.members, training, progress)
    return networks.fold(mean, scale).tensors(ERROR)


class _Networks:
    """`members` multilayer perceptrons at once: (members, B, inputs) to (members, B)."""

    def __init__(self, members: int, inputs: int) -> None:
        self._weights, self._biases = [], []
        for size, outputs in pairwise([inputs, *[_HIDDEN] * (LAYERS - 1), 1]):
            self._weights.append(nn.Parameter(torch.randn(members, size, outputs) * (2.0 / size) ** 0.5))
            self._biases.append(nn.Parameter(torch.zeros(members, 1, outputs)))

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self._weights, *self._biases]

    def __call__(self, x: Tensor) -> Tensor:
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self._biases[-1], x, self._weights[-1])[..., 0]

    def fold(self, mean: Tensor, scale: Tensor) -> _Networks:
        """Make (x - mean) * scale part of the first layer."""
        with torch.no_grad():
            self._biases[0] -= ((mean * scale) @ self._weights[0])[:, None]
            self._weights[0] *= scale[:, None]
        return self

    def tensors(self, name: str) -> Tensors:
        """By the names that `Heads` reads."""
        layers = enumerate(zip(self._weights, self._biases, strict=True))
        return {
            f"{name}.{number}.{kind}": tensor.detach()
            for number, pair in layers
            for kind, tensor in zip(("weight", "bias"), pair, strict=True)
        }


def _fit(
    forward: Callable[[Tensor], Tensor],
    parameters: list[nn.Parameter],
    draw: Draw,
    members: int,
    training: HeadsTraining,
    progress: Done,
) -> None:
    rng = np.random.default_rng(training.seed)
    optimiser = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, training.steps)
    for step in range(training.steps):
        batches = [draw(member, rng) for member in range(members)]
        inputs, wanted = (
            torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*batches, strict=True)
        )
        loss = F.smooth_l1_loss(forward(inputs), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            progress(step / training.steps)


def _command(datasets: Sequence[Path], folder: Path, training: HeadsTraining) -> str:
    """The command line that repeats this training; folders by their names alone."""
    words = ["wm-vla", "train", "heads", "--world-model", folder.name]
    for root in datasets:
        words += ["--dataset", root.name]
    return shlex.join([*words, "--steps", str(training.steps), "--seed", str(training.seed)])

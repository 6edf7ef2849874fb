"""Training of the keypoint chunk policy by behaviour cloning, from data sets to a folder in models/."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_vla_ros.data.episode import IMAGE_PREFIX
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.training.devices import has_bfloat16
from wm_vla_ros.training.policy_data import (
    ChunkSamples,
    load_demonstrations,
    normalisation,
    split_samples,
)
from wm_vla_ros.training.policy_files import policy_folder, read_stats, save_policy
from wm_vla_ros.training.sight import Sight, load_scenes, seen_to_move
from wm_vla_ros.vla.keypoint_chunk.configuration_keypoint_chunk import KeypointChunkConfig
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy, words_of

Progress = Callable[[float, str], None]
_EVALUATIONS = 20
_HELD_OUT_SAMPLES = 1024


@dataclass(frozen=True)
class PolicyTraining:
    """How to train. Exactly one of steps and minutes.

    With `steps` on a CPU the result depends on the seed alone; with `minutes` also on the machine's speed.
    cameras: what the policy looks at. ema: share that the averaged weights keep per step. jitter: greatest
    change of brightness and contrast; positions are never shifted, they mean metres. locate: weight of
    `Sight`, where there are scenes to look at.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    cameras: tuple[str, ...] = ("front",)
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    ema: float = 0.999
    jitter: float = 0.08
    locate: float = 0.3
    held_out: float = 0.04
    chunk: int = 48
    execute: int = 24

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(f"give either steps or minutes, got {self.steps} and {self.minutes}")
        if (self.steps or self.minutes or 0) <= 0:
            raise ValueError(f"steps and minutes must be positive, got {self.steps or self.minutes}")


def train(
    datasets: Sequence[Path],
    out: Path,
    training: PolicyTraining,
    start_from: Path | None = None,
    progress: Progress = lambda share, note: None,
    scenes: Sequence[Path] = (),
) -> Report:
    """Train on demonstrations and write the policy to the new folder `out`.

    start_from: a policy of this kind to go on from, a name in models/ or a folder. scenes: data sets that are
    only looked at, with what they know of objects. progress: called with the
    share done and a note. Raises FileExistsError when `out` exists, ValueError for data that do not fit.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already; a model is never overwritten: give another path")
    if start_from is not None:
        start_from = policy_folder(start_from)
    _seed_everything(training)
    data = load_demonstrations(datasets, training.cameras)
    samples, held_out = split_samples(data, training.chunk, training.held_out, training.seed)
    device = (
        ("cuda" if torch.cuda.is_available() else "cpu") if training.device == "auto" else training.device
    )
    policy, stats = _policy(data, samples, training, start_from)
    policy.to(device)
    started = time.monotonic()
    sight = _sight(policy, samples, load_scenes(scenes, data, training.cameras), device)
    trained, steps, losses = _optimise(policy, samples, held_out, stats, training, device, progress, sight)
    seconds = time.monotonic() - started
    figures = (
        Figure("policy.steps", steps),
        Figure("policy.seconds", round(seconds, 1), "s"),
        Figure("policy.parameters", sum(p.numel() for p in trained.parameters())),
        Figure("policy.samples", len(samples)),
        Figure("policy.train_l1", losses[0], "std"),
        Figure("policy.held_out_l1", losses[1], "std", len(held_out)),
    )
    if sight is not None:
        error = sight.error(trained, held_out, partial(prepare, stats=stats, device=device))
        figures = (*figures, Figure("policy.object_error", error, "m", len(held_out)))
    report = Report("train policy", {**asdict(training), "device": device, **conditions()}, figures)
    told = {**asdict(training), "steps_taken": steps}
    command = _command(datasets, scenes, out, training, start_from)
    save_policy(out, trained, stats, data, [*datasets, *scenes], told, command, report)
    return report


def _seed_everything(training: PolicyTraining) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(training.threads))
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def _policy(
    data: EpisodeArrays, samples: ChunkSamples, training: PolicyTraining, start_from: Path | None
) -> tuple[KeypointChunkPolicy, dict[str, dict[str, Any]]]:
    """A fresh policy with its normalisation, or an earlier one with its own."""
    if start_from is not None:
        policy = KeypointChunkPolicy.from_pretrained(start_from)
        policy.tokens(data.tasks)
        if policy.config.chunk_size != training.chunk:
            raise ValueError(f"{start_from} has chunks of {policy.config.chunk_size}, not {training.chunk}")
        return policy, read_stats(start_from)
    from lerobot.configs import FeatureType, PolicyFeature

    pixels = {camera: frames[np.array([0])].shape[1:] for camera, frames in data.images.items()}
    config = KeypointChunkConfig(
        chunk_size=training.chunk,
        n_action_steps=training.execute,
        vocabulary=sorted({word for task in data.tasks for word in words_of(task)}),
        instructions=sorted(data.tasks),
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (data.states.shape[1],)),
            **{
                IMAGE_PREFIX + camera: PolicyFeature(FeatureType.VISUAL, (3, height, width))
                for camera, (height, width, _) in pixels.items()
            },
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (data.actions.shape[1],))},
        device="cpu",
        push_to_hub=False,
        license="apache-2.0",
        optimizer_lr=training.learning_rate,
        optimizer_weight_decay=training.weight_decay,
        optimizer_warmup_steps=training.warmup,
    )
    return KeypointChunkPolicy(config), normalisation(samples)


def _sight(
    policy: KeypointChunkPolicy,
    samples: ChunkSamples,
    scenes: EpisodeArrays | None,
    device: str,
) -> Sight | None:
    if scenes is None:
        return None
    if not len(seen_to_move(samples)):
        raise ValueError("scenes: the demonstrations know of no object that is ever elsewhere")
    return Sight(policy, samples, scenes, device)


def _optimise(
    policy: KeypointChunkPolicy,
    samples: ChunkSamples,
    held_out: ChunkSamples,
    stats: dict[str, dict[str, Any]],
    training: PolicyTraining,
    device: str,
    progress: Progress,
    sight: Sight | None,
) -> tuple[KeypointChunkPolicy, int, tuple[float, float]]:
    """Returns the averaged policy, the steps taken, and the last training and held-out losses."""
    averaged = deepcopy(policy).eval()
    parameters = [*policy.parameters(), *(sight.parameters() if sight is not None else ())]
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    ready = partial(prepare, stats=stats, device=device, jitter=training.jitter)
    rng = np.random.default_rng(training.seed)
    check = rng.choice(len(held_out), min(len(held_out), _HELD_OUT_SAMPLES), replace=False)
    low_precision = has_bfloat16(device)
    started = time.monotonic()
    recent, held, step, next_check = math.nan, math.nan, 0, 1 / _EVALUATIONS
    policy.train()
    while True:
        share = _share(step, started, training)
        if share >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * _schedule(step, share, training.warmup)
        picks = rng.choice(len(samples), training.batch, p=samples.weights)
        batch = ready(samples.batch(picks))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=low_precision):
            features = policy.features(batch)
            loss, _ = policy.imitation(features, batch)
            blur = sight.loss(features, picks, ready, rng) if sight is not None else 0.0
        optimiser.zero_grad(set_to_none=True)
        (loss + training.locate * blur).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        _average(averaged, policy, min(training.ema, (1 + step) / (10 + step)))
        recent = float(loss.detach()) if step == 1 else 0.98 * recent + 0.02 * float(loss.detach())
        if share >= next_check:
            next_check += 1 / _EVALUATIONS
            held = evaluate_loss(averaged, held_out, check, stats, device)
        progress(share, f"step {step}, loss {recent:.4f}, held out {held:.4f}")
    held = evaluate_loss(averaged, held_out, check, stats, device)
    progress(1.0, f"step {step}, loss {recent:.4f}, held out {held:.4f}")
    return averaged, step, (recent, held)


def prepare(
    raw: dict[str, Any], stats: dict[str, dict[str, Any]], device: str, jitter: float = 0.0
) -> dict[str, Any]:
    """A batch as LeRobot's preprocessor would make it: normalised, images in [0, 1], channels first.

    raw: as `ChunkSamples.batch`; without actions for a policy that only looks.
    """

    def normalised(values: np.ndarray, name: str) -> Tensor:
        mean, std = stats[name]["mean"], stats[name]["std"]
        return torch.from_numpy(((values - mean) / (std + 1e-8)).astype(np.float32)).to(device)

    batch: dict[str, Any] = {
        "observation.state": normalised(raw["state"], "observation.state"),
        "task": raw["task"],
    }
    if "actions" in raw:
        batch["action"] = normalised(raw["actions"], "action")
        batch["action_is_pad"] = torch.from_numpy(raw["is_pad"]).to(device)
    for camera, pixels in raw["images"].items():
        images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255.0)
        if jitter:
            contrast = 1.0 + jitter * (2.0 * torch.rand(len(images), 3, 1, 1) - 1.0).to(device)
            brightness = jitter * (2.0 * torch.rand(len(images), 1, 1, 1) - 1.0).to(device)
            images = (images * contrast + brightness).clamp_(0.0, 1.0)
        batch[IMAGE_PREFIX + camera] = images
    return batch


@torch.no_grad()
def evaluate_loss(
    policy: KeypointChunkPolicy,
    samples: ChunkSamples,
    picks: np.ndarray,
    stats: dict[str, dict[str, Any]],
    device: str,
) -> float:
    """Mean L1 loss, in standard deviations of the actions, over the picked samples."""
    losses, counts = [], []
    for start in range(0, len(picks), 128):
        part = picks[start : start + 128]
        loss, _ = policy.forward(prepare(samples.batch(part), stats, device))
        losses.append(float(loss))
        counts.append(int(samples.valid[part].sum()))
    return float(np.average(losses, weights=counts))


def _share(step: int, started: float, training: PolicyTraining) -> float:
    if training.steps is not None:
        return step / training.steps
    return (time.monotonic() - started) / (60.0 * float(training.minutes or 0.0))


def _schedule(step: int, share: float, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine down to a hundredth."""
    cosine = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
    return cosine * min(1.0, (step + 1) / warmup)


@torch.no_grad()
def _average(averaged: torch.nn.Module, policy: torch.nn.Module, keep: float) -> None:
    old, new = list(averaged.parameters()), list(policy.parameters())
    torch._foreach_mul_(old, keep)
    torch._foreach_add_(old, new, alpha=1.0 - keep)


def _command(
    datasets: Sequence[Path],
    scenes: Sequence[Path],
    out: Path,
    training: PolicyTraining,
    start_from: Path | None,
) -> str:
    """The command line that repeats this training; folders by their names alone."""
    length = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    words = ["wm-vla", "train", "policy"]
    for root in datasets:
        words += ["--dataset", root.name]
    for root in scenes:
        words += ["--scenes", root.name]
    if start_from is not None:
        words += ["--start-from", start_from.name]
    words += ["--output", out.name, length[0], str(length[1]), "--seed", str(training.seed)]
    words += ["--learning-rate", str(training.learning_rate)]
    return shlex.join([*words, "--cameras", ",".join(training.cameras)])

"""Behaviour cloning on latents: which rows are shown how often is the caller's, everything else is fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from wm_vla_ros.data.latent_episodes import LatentEpisodes
from wm_vla_ros.training.policy_data import valid_ticks
from wm_vla_ros.vla.latent_policy import (
    ABOUT,
    ACTION_MEAN,
    ACTION_SCALE,
    BETWEEN,
    CHUNK,
    LATENT_MEAN,
    LATENT_SCALE,
    NETWORK,
    spoken,
    words_of,
)
from wm_vla_ros.world_models.actor_critic import LINEAR, NORM
from wm_vla_ros.world_models.networks import mlp

_HIDDEN, _RATE, _DECAY, _CLIP = 256, 1e-3, 1e-2, 1.0
# An action or latent entry that varies by less counts as constant.
_CONSTANT = 1e-4


@dataclass(frozen=True, slots=True)
class Cloning:
    """How to clone. share: of a batch that is imagined, where anything is. noise: standard deviation that is
    added to latents, as a share of that of each entry."""

    steps: int
    seed: int
    share: float = 0.5
    noise: float = 0.0
    batch: int = 256


def clone(
    data: LatentEpisodes, out: Path, cloning: Cloning, progress: Callable[[float], None] = lambda share: None
) -> None:
    """Clone `data`'s demonstrators and write the policy to the file `out`, for `vla.latent_policy`.

    Rows are samples where they have a latent of their own. Raises FloatingPointError for a loss that is no
    number.
    """
    torch.manual_seed(cloning.seed)
    rng = np.random.default_rng(cloning.seed)
    rows = np.flatnonzero(data.age == 0)
    valid = valid_ticks(data, rows, CHUNK)
    groups = [group for kind in (False, True) if len(group := np.flatnonzero(data.imagined[rows] == kind))]
    mean, scale = _scales(data.latents[rows[groups[0]]])
    # Of an action that is never used the policy gives exactly the mean.
    usual, spread = _scales(data.expert_actions[rows[groups[0]]])
    words = words_of(data.tasks)
    said = np.stack([spoken(task, words) for task in data.tasks])[data.episode_tasks]
    owner = np.searchsorted(data.starts, rows, side="right") - 1
    network = mlp(len(mean) + len(words), _HIDDEN, CHUNK * len(usual))
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, cloning.steps)
    used = (spread > _CONSTANT).astype(np.float32)
    for step in range(cloning.steps):
        picked = _picked(groups, cloning, rng)
        at = rows[picked]
        ticks = np.minimum(at[:, None] + np.arange(CHUNK), len(data.actions) - 1)
        seen = (data.latents[at] - mean) / scale
        if cloning.noise:
            seen += cloning.noise * rng.standard_normal(seen.shape, dtype=np.float32)
        wanted = (data.expert_actions[ticks] - usual) / np.maximum(spread, _CONSTANT)
        counts = (np.arange(CHUNK) < valid[picked][:, None])[..., None] * used
        given = network(torch.from_numpy(np.concatenate([seen, said[owner[picked]]], axis=1)))
        error = nn.functional.smooth_l1_loss(
            given.unflatten(1, (CHUNK, -1)), torch.from_numpy(wanted), reduction="none"
        )
        weight = torch.from_numpy(counts)
        loss = (error * weight).sum() / weight.sum()
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"the loss of step {step} is {float(loss.detach())}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            progress(step / cloning.steps)
    tensors = {
        LATENT_MEAN: torch.from_numpy(mean),
        LATENT_SCALE: torch.from_numpy(scale),
        ACTION_MEAN: torch.from_numpy(usual),
        ACTION_SCALE: torch.from_numpy(spread * used),
    }
    for place in LINEAR + NORM:
        for kind in ("weight", "bias"):
            value = getattr(network[place], kind).detach()
            tensors[f"{NETWORK}.{place}.{kind}"] = value.movedim(0, -1).contiguous()
    save_file(tensors, out, {ABOUT: BETWEEN.join((data.provenance.encoder_id, *data.tasks))})


def _picked(groups: list[NDArray[np.int64]], cloning: Cloning, rng: np.random.Generator) -> NDArray[np.int64]:
    """(batch,) samples: the share of imagined ones where there are some."""
    imagined = round(cloning.share * cloning.batch) if len(groups) == 2 else 0
    sizes = (cloning.batch - imagined, imagined)
    return np.concatenate([rng.choice(group, size) for group, size in zip(groups, sizes, strict=False)])


def _scales(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    values = values.astype(np.float64)  # a sum of many equal numbers is not exact in float32
    return values.mean(0).astype(np.float32), np.maximum(values.std(0), 1e-6).astype(np.float32)

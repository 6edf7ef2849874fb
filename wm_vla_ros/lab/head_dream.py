"""A policy's chunks in a world model's imagination: what they are paid there, and a head that learns from it.

The reward of a tick is minus the distance between the latent that is imagined and a latent that a successful
demonstration came to, so it is dense and needs neither labels nor a reward model. As a goal of its own for
every tick it is that of DITTO (DeMoss et al., "DITTO: Offline Imitation Learning with World Models", 2023);
as one goal for a whole chunk it is the goal-reaching reward of visual foresight and DINO-WM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros.lab.dream import step
from wm_vla_ros.training.policy_data import ChunkSamples
from wm_vla_ros.types import FloatArray
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkNet
from wm_vla_ros.world_models.modules import Transition

# What a chunk is paid for: being where the demonstration was at each tick, or where it was at the last one.
PATH, END = "path", "end"
GOALS = (PATH, END)
# Share of the usual way that hardly counts: it keeps the gradient at the goal finite.
_NEAR = 0.02
_CLIP = 1.0


@dataclass(frozen=True)
class DemonstrationPaths:
    """F frames of successful demonstrations, what two frozen networks make of them, and where they lead.

    samples: the frames, in order. features: (F, N) as the policy's head is told. latents: (F, D) of the world
    model. clear: (F,) ticks, up to a whole chunk, before something else than the expert acted.
    """

    samples: ChunkSamples
    features: Tensor
    latents: Tensor
    clear: NDArray[np.int64]

    @classmethod
    def of(cls, samples: ChunkSamples, features: Tensor, latents: FloatArray) -> DemonstrationPaths:
        return cls(samples, features, torch.from_numpy(latents), _clear_ticks(samples))

    @property
    def usable(self) -> NDArray[np.int64]:
        """Frames after which the expert acts at all."""
        return np.flatnonzero(self.clear > 0)

    def goals(self, picks: NDArray[np.int64], kind: str) -> tuple[Tensor, Tensor]:
        """Latents to be at after each tick (B, chunk, D), and which ticks count (B, chunk) bool.

        Between two frames a latent is interpolated. An episode that has ended goes on as it ended: what was
        asked for is done, and is to stay so.
        """
        samples = self.samples
        rows, chunk = samples.rows, samples.chunk
        ticks = np.arange(1, chunk + 1)
        episodes = samples.data.row_episode()[rows]
        last = np.searchsorted(episodes, episodes[picks], side="right") - 1
        ahead = np.minimum(ticks, self.clear[picks, None]) if kind == PATH else self.clear[picks, None]
        wanted = np.minimum(rows[picks, None] + ahead, rows[last, None])
        low = np.searchsorted(rows, wanted, side="right") - 1
        high = np.minimum(low + 1, last[:, None])
        gap = np.maximum(rows[high] - rows[low], 1)
        share = torch.from_numpy(((wanted - rows[low]) / gap).astype(np.float32))[..., None]
        goals = torch.lerp(self.latents[low], self.latents[high], share)
        counts = torch.from_numpy(ticks <= self.clear[picks, None])
        return goals.expand(-1, chunk, -1), counts


def _clear_ticks(samples: ChunkSamples) -> NDArray[np.int64]:
    data, rows = samples.data, samples.rows
    places = np.where(data.disturbed, np.arange(len(data.disturbed)), len(data.disturbed))
    disturbed = np.minimum.accumulate(places[::-1])[::-1][rows]
    episodes = data.row_episode()[rows]
    return np.where(
        disturbed < data.starts[episodes + 1], np.minimum(disturbed - rows, samples.chunk), samples.chunk
    )


@dataclass(frozen=True)
class ChunkDream:
    """Frozen dynamics and the normalisation of a policy's actions.

    mean, std: (A,) of the normalisation. low, high: (A,) bounds of what is done: an action beyond them is
    worth what the bound is worth. goal: of GOALS. usual: mean distance from a frame to its goals; rewards are
    in units of it, so that standing still is paid about -1 per tick.
    """

    dynamics: Transition
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    goal: str
    usual: float

    def actions(self, chunk: Tensor) -> Tensor:
        """The robot's actions (..., A) of normalised ones."""
        return torch.maximum(torch.minimum(chunk * self.std + self.mean, self.high), self.low)

    def rewards(self, latents: Tensor, goals: Tensor) -> Tensor:
        """(...) for being at `latents` (..., D) when `goals` (..., D) are asked for."""
        return -rounded(latents, goals, _NEAR * self.usual) / self.usual

    def returns(
        self, ways: DemonstrationPaths, picks: NDArray[np.int64], actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of actions (B, chunk, A): summed rewards (B,), imagined latents and goals (B, chunk, D)."""
        goals, counts = ways.goals(picks, self.goal)
        imagined = self.dynamics.rollout(ways.latents[picks], actions)
        return (self.rewards(imagined, goals) * counts).sum(1), imagined, goals


def rounded(latents: Tensor, goals: Tensor, near: float) -> Tensor:
    """Distance (...) per root dimension between latents (..., D), rounded off below `near`."""
    return ((latents - goals).square().mean(-1) + near**2).sqrt() - near


def path_baseline(ways: DemonstrationPaths, kind: str) -> float:
    """Mean distance from frames to their goals. Raises ValueError when the latents of no episode differ."""
    picks = ways.usable
    total, count = 0.0, 0
    for part in np.array_split(picks, -(-len(picks) // 512)):
        goals, counts = ways.goals(part, kind)
        total += float((rounded(ways.latents[part, None], goals, 0.0) * counts).sum())
        count += int(counts.sum())
    if not total > 0.0:
        raise ValueError("the world model tells none of the frames of an episode apart: no goal is anywhere")
    return total / count


@dataclass(frozen=True)
class HeadLearning:
    """How the head learns. proximal: weight of the squared deviation from what the head said before, in
    standard deviations of the actions. smooth: weight of the same of differences between ticks."""

    steps: int
    seed: int
    batch: int
    learning_rate: float
    proximal: float
    smooth: float


def learn(
    net: KeypointChunkNet,
    dream: ChunkDream,
    ways: DemonstrationPaths,
    learning: HeadLearning,
    progress: Callable[[float, str], None] = lambda share, note: None,
) -> None:
    """Train the head of `net`, and nothing else of it, to be paid more for its chunks.

    The gradient goes through the model (docs/adr/0021). Without bounds on how far the head may go it would
    leave what the model knows: a proximal term (Schulman et al., "Trust Region Policy Optimization", 2015, in
    the quadratic form of Rajeswaran et al., 2018) holds every chunk, and how it changes from tick to tick, to
    what was said before.
    """
    torch.manual_seed(learning.seed)
    rng = np.random.default_rng(learning.seed)
    head = torch.nn.ModuleList(getattr(net, name) for name in net.HEAD)
    used = dream.std > 0.0
    with torch.no_grad():
        before = torch.cat([net.head(part) for part in ways.features.split(4096)])
    picks = ways.usable
    weights = ways.samples.weights[picks] / ways.samples.weights[picks].sum()
    net.requires_grad_(False)
    head.requires_grad_(True)
    optimiser = torch.optim.Adam(head.parameters(), learning.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning.learning_rate, learning.steps)
    for number in range(learning.steps):
        batch = rng.choice(picks, learning.batch, p=weights)
        chunk = net.head(ways.features[batch])
        paid = dream.returns(ways, batch, dream.actions(chunk))[0].mean() / ways.samples.chunk
        moved = (chunk - before[batch])[..., used]
        loss = -paid + learning.proximal * moved.square().mean()
        loss = loss + learning.smooth * moved.diff(dim=1).square().mean()
        step(loss, head, optimiser, _CLIP)
        schedule.step()
        if number % 20 == 0:
            progress(number / learning.steps, f"reward per tick {float(paid.detach()):.3f}")
    net.requires_grad_(True)

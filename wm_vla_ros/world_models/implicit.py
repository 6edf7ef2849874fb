"""The implicit family, after TD-MPC2 (Hansen, Su, Wang, ICLR 2024): a latent that knows what it is worth.

Nothing is decoded. A latent is a set of simplices (SimNorm); it is learned by consistency with a slow target
encoder, by the reward and the value of what is seen, and, unlike there, by the linear grounding that every
family here has, since without it cubes are forgotten. Reward is success. Reward and value are ensembles
over bins of symlog (two-hot regression); a policy prior imitates the expert and shapes nothing.

Two more departures: value is that of the demonstrations, regressed from their discounted returns, since a
value that bootstraps on demonstrations alone is exploited by a planner; and dynamics changes the logarithm of
a simplex rather than making a new one, so that a tick without change is exact and no logarithm is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models import modules
from wm_vla_ros.world_models.family import LatentWorldModel, Terms, Window
from wm_vla_ros.world_models.modules import ModelConfig
from wm_vla_ros.world_models.two_hot import TwoHot

if TYPE_CHECKING:
    from wm_vla_ros.data.lerobot_reader import EpisodeArrays

# Entries of one simplex (TD-MPC2's V).
GROUP = 8
# Latents of one-hot simplices are as long as layer-normalised ones: the planner's weights carry over.
SCALE = GROUP**0.5
# Bounds on logits, and on their change in a tick: no exponential overflows, and no entry is lost for good.
LOGIT, CHANGE = 6.0, 3.0
# Bins of symlog, over 0 to the value 1 / (1 - discount) of lasting success at a discount of 0.99.
LOW, HIGH, BINS = -0.2, 4.8, 64


@dataclass(frozen=True, slots=True)
class ImplicitOptions:
    """discount: per control tick. every: ticks between the predictions that heads are trained on.

    reward, value and policy: weights of their terms, beside `LossConfig`.
    """

    discount: float = 0.99
    members: int = 3
    hidden: int = 128
    every: int = 8
    reward: float = 0.1
    value: float = 0.1
    policy: float = 0.1


def _simplices(positive: Tensor) -> Tensor:
    groups = positive.unflatten(-1, (-1, GROUP))
    return (groups * (SCALE / groups.sum(-1, keepdim=True))).flatten(-2)


def simnorm(logits: Tensor) -> Tensor:
    """(..., D) to D / 8 simplices times `SCALE` (Lavoie et al., "Simplicial Embeddings", ICLR 2023).

    exp and a sum: torch's softmax over 8 entries costs ten times as much on a CPU. That needs bounded logits.
    """
    return _simplices(torch.exp(LOGIT * torch.tanh(logits / LOGIT)))


class Dynamics(modules.Dynamics):
    """z' = SimNorm(log z + change), written without the logarithm."""

    def settle(self, latent: Tensor, change: Tensor) -> Tensor:
        return _simplices(latent * torch.exp(change.clamp(-CHANGE, CHANGE)))


class Head(nn.Module):
    """latents (N, D), tasks (N,) -> (members, N, outputs): MLPs that differ by their first weights alone."""

    def __init__(self, config: ModelConfig, members: int, hidden: int, outputs: int) -> None:
        super().__init__()

        def weight(inputs: int, size: int, gain: float = 2.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(members, inputs, size) * (gain / inputs) ** 0.5)

        self.first, self.second = weight(config.latent_dim, hidden), weight(hidden, hidden)
        self.task = nn.Parameter(torch.zeros(members, len(config.tasks), hidden))
        self.second_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.out, self.out_bias = (
            weight(hidden, outputs, 0.01),
            nn.Parameter(torch.zeros(members, 1, outputs)),
        )

    def forward(self, latents: Tensor, tasks: Tensor) -> Tensor:
        x = torch.relu(latents @ self.first + self.task[:, tasks])
        x = torch.relu(torch.baddbmm(self.second_bias, x, self.second))
        return torch.baddbmm(self.out_bias, x, self.out)


def discounted_returns(success: NDArray[np.bool_], starts: NDArray[np.int64], discount: float) -> NDArray:
    """(N,) sums of discounted success from each row to its episode's end, whose last reward goes on for ever.

    Recordings are cut off some ticks after success; they do not end there.
    """
    returns = success.astype(np.float64)
    ends = starts[1:] - 1
    returns[ends] /= 1.0 - discount
    for start, end in zip(starts[:-1], ends, strict=True):
        for row in range(end - 1, start - 1, -1):
            returns[row] += discount * returns[row + 1]
    return returns.astype(np.float32)


class Implicit(LatentWorldModel):
    """SimNorm latents with reward, value and policy prior, each given one of the data set's tasks."""

    family = "implicit"
    norm = staticmethod(simnorm)
    dynamics_type = Dynamics

    def __init__(self, config: ModelConfig, options: ImplicitOptions | None = None) -> None:
        super().__init__(config)
        if config.latent_dim % GROUP:
            raise ValueError(f"latent_dim: expected a multiple of {GROUP}, got {config.latent_dim}")
        self.own = own = options or ImplicitOptions()
        self.two_hot = TwoHot(BINS, LOW, HIGH, in_symlog=True)
        self.reward = Head(config, own.members, own.hidden, BINS)
        self.value = Head(config, own.members, own.hidden, BINS)
        self.policy = Head(config, 1, own.hidden, config.action_dim)

    def options(self) -> dict[str, Any]:
        return asdict(self.own)

    def metadata(self) -> dict[str, str]:
        """The tasks by their index: without them nobody can ask a head."""
        return {"tasks": json.dumps(self.config.tasks)}

    def values(self, latents: Tensor, tasks: Tensor) -> Tensor:
        """(members, N) discounted success to come from latents (N, D) under tasks (N,)."""
        return self.two_hot.mean(self.value(latents, tasks))

    def rewards(self, latents: Tensor, tasks: Tensor) -> Tensor:
        """(members, N) expected success in latents (N, D) under tasks (N,)."""
        return self.two_hot.mean(self.reward(latents, tasks))

    def actions(self, latents: Tensor, tasks: Tensor) -> Tensor:
        """(N, A) what the expert would do; an action that never varied in the data stays at its mean."""
        scale = self.dynamics.action_scale
        step = torch.where(scale > 0, 1.0 / torch.where(scale > 0, scale, 1.0), 0.0)
        return self.policy(latents, tasks)[0] * step + self.dynamics.action_mean

    def untaught(self, data: EpisodeArrays) -> tuple[str, ...]:
        return () if data.success.any() else ("reward, value and policy: no row of the data is a success",)

    def row_targets(self, data: EpisodeArrays) -> dict[str, NDArray]:
        """Task, success, its return and the expert's action of every row.

        demonstration: whether the row's task is ever done in the data; play is nobody's example.
        """
        task = data.episode_tasks[data.row_episode()]
        return {
            "task": task,
            "demonstration": np.isin(task, np.unique(task[data.success])),
            "success": data.success.astype(np.float32),
            "return": discounted_returns(data.success, data.starts, self.own.discount),
            "expert_action": data.expert_actions,
        }

    def window_terms(self, latent: Tensor, predictions: Tensor, window: Window) -> Terms:
        """Heads at the first latent and at every few predicted ones."""
        every = self.own.every
        latents = torch.cat([latent[:, None], predictions], 1)[:, ::every]
        known = {name: values[:, ::every] for name, values in window.known.items()}
        shown = known["demonstration"]
        if not bool(shown.any()):
            return {}
        latents, tasks = latents[shown], known["task"][shown]
        expert = (known["expert_action"][shown] - self.dynamics.action_mean) * self.dynamics.action_scale
        reward = self.two_hot.loss(self.reward(latents, tasks), known["success"][shown])
        value = self.two_hot.loss(self.value(latents, tasks), known["return"][shown])
        return {
            "reward": self.own.reward * reward.mean(),
            "value": self.own.value * value.mean(),
            "policy": self.own.policy * F.smooth_l1_loss(self.policy(latents.detach(), tasks)[0], expert),
        }

    @torch.no_grad()
    def held_out(
        self, latents: Tensor, known: Mapping[str, Tensor], episode: NDArray[np.int64]
    ) -> dict[str, float]:
        """Rank correlation of value and return, error of reward, and of the policy prior over two others'.

        value.spearman_before: over frames before success alone, where a planner would ask. Either is NaN
        where there is nothing to rank: one of the two never varies.
        policy.ratio_persistence: squared error over that of the expert's action one frame earlier;
        policy.ratio_mean: over that of the expert's mean action. Empty without demonstrations.
        """
        shown = known["demonstration"]
        if not bool(shown.any()):
            return {}
        tasks, expert = known["task"], known["expert_action"]
        value = self.values(latents, tasks).mean(0)
        reward = self.rewards(latents, tasks).mean(0)
        error = (self.actions(latents, tasks) - expert).square().sum(1)
        before = shown & (known["success"] == 0)
        again = shown.clone()
        again[0] = False
        again[1:] &= torch.from_numpy(episode[1:] == episode[:-1])
        still = (expert - expert.roll(1, 0)).square().sum(1)
        middle = (expert - expert[shown].mean(0)).square().sum(1)
        return {
            "value.spearman": _rank_correlation(value[shown], known["return"][shown]),
            "value.spearman_before": _rank_correlation(value[before], known["return"][before]),
            "reward.mean_error": float((reward - known["success"])[shown].abs().mean()),
            "policy.ratio_persistence": float(error[again].sum() / still[again].sum()),
            "policy.ratio_mean": float(error[shown].sum() / middle[shown].sum()),
        }


def _rank_correlation(ours: Tensor, true: Tensor) -> float:
    """Spearman's of two (N,), NaN where one of them never varies."""
    if any(len(each) < 2 or bool((each == each[0]).all()) for each in (ours, true)):
        return math.nan
    return float(spearmanr(ours, true).statistic)

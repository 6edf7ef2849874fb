"""Actor and critic that learn in a world model's imagination alone (Dreamer: Hafner et al. 2020, 2021, 2025).

From states that were really seen the actor acts for H steps in the dream. The return of each step is

    R_t = r_{t+1} + gamma c_{t+1} ((1 - lambda) v(s_{t+1}) + lambda R_{t+1}),   R_{H-1} from v(s_H) alone

(DreamerV3, section "Critic learning"). The critic learns the distribution of R by two-hot classification, and
its slow average bootstraps, as in DreamerV2. The actor climbs R / max(1, S), S the running range from the 5th
to the 95th percentile of R (DreamerV3, section "Actor learning"), plus its entropy.

Its gradient goes through the model (DreamerV1, and V2 in continuous control), not through REINFORCE as in V3:
actions, latents and rewards are differentiable here, and it learns from fewer dreams (docs/adr/0021).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from wm_vla_ros.world_models.networks import mlp, silent
from wm_vla_ros.world_models.two_hot import TwoHot

# Bounds of the actor's standard deviation, actions being in [-1, 1] (DreamerV3, "bounded normal").
_LEAST_STD, _MOST_STD = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class DreamConfig:
    """How to learn in the dream. horizon: steps. discount: per step. mix: lambda of the returns.

    slow: share by which the slow critic follows, per update. range_rate: the same for the returns' range.
    clip: norm of a gradient.
    """

    horizon: int = 15
    discount: float = 0.985
    mix: float = 0.95
    entropy: float = 3e-4
    hidden: int = 128
    actor_rate: float = 5e-4
    critic_rate: float = 1e-3
    slow: float = 0.02
    range_rate: float = 0.01
    clip: float = 10.0


class Sizes(Protocol):
    """What a dream's networks are as large as."""

    @property
    def features(self) -> int: ...

    @property
    def action_dim(self) -> int: ...


class State(Protocol):
    """Where a dream is: a named tuple of tensors (B, ...), and in `features` (B, F) what is seen of them."""

    @property
    def features(self) -> Tensor: ...

    def __iter__(self) -> Iterator[Any]: ...


class Dream(Protocol):
    """What can be dreamed in: `world_models.rssm.Rssm`, or any world model with a reward of its own.

    A module whose weights stay what they are. Actions (B, A) lie in [-1, 1]; gradients pass through.
    """

    @property
    def config(self) -> Sizes: ...

    def imagine(self, state: Any, action: Tensor) -> Any:
        """The state one step on."""
        ...

    def reward(self, state: Any) -> Tensor:
        """(...) for arriving in states (...)."""
        ...

    def going_on(self, state: Any) -> Tensor:
        """(...) probability that the episode goes on in states (...)."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class Actor(nn.Module):
    """Features (..., F) -> a normal distribution over actions (..., A), its mean within [-1, 1]."""

    def __init__(self, features: int, action_dim: int, hidden: int) -> None:
        super().__init__()
        self.network = mlp(features, hidden, 2 * action_dim)

    def forward(self, features: Tensor) -> Normal:
        mean, spread = self.network(features).chunk(2, -1)
        return Normal(mean.tanh(), _LEAST_STD + (_MOST_STD - _LEAST_STD) * spread.sigmoid())


class Critic(nn.Module):
    """Features (..., F) -> logits over returns; `value` is their mean."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.two_hot = TwoHot()
        self.network = silent(mlp(features, hidden, len(self.two_hot.bins)))

    def forward(self, features: Tensor) -> Tensor:
        return self.network(features)

    def value(self, features: Tensor) -> Tensor:
        """Expected return (...)."""
        return self.two_hot.mean(self(features))


class ReturnRange:
    """Running distance from the 5th to the 95th percentile of the returns (DreamerV3)."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.value: float | None = None

    def follow(self, returns: Tensor) -> float:
        """Take in a batch of returns; what to divide by: the range, at least 1."""
        flat = returns.detach().flatten()
        low, high = torch.quantile(flat, flat.new_tensor([0.05, 0.95])).tolist()
        # Starting at the first range, not at 0, needs no correction for the start.
        old = high - low if self.value is None else self.value
        self.value = old + self.rate * (high - low - old)
        return max(1.0, self.value)


def lambda_returns(rewards: Tensor, values: Tensor, discounts: Tensor, mix: float) -> Tensor:
    """Returns (H, ...) from what follows each step: rewards, values and discounts, (H, ...) all.

    Row t holds what came of the action at t: the reward for it, the value of the state it led to, and what
    that state's future counts (gamma, or 0 where the episode ends).
    """
    following = values[-1]
    returns = []
    for reward, value, discount in zip(rewards.flip(0), values.flip(0), discounts.flip(0), strict=True):
        following = reward + discount * ((1.0 - mix) * value + mix * following)
        returns.append(following)
    return torch.stack(returns).flip(0)


class Dreamer:
    """An actor and a critic for one world model."""

    def __init__(self, model: Dream, config: DreamConfig) -> None:
        features = model.config.features
        self.model, self.config = model, config
        self.actor = Actor(features, model.config.action_dim, config.hidden)
        self.critic = Critic(features, config.hidden)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.range = ReturnRange(config.range_rate)
        self._actor_step = torch.optim.Adam(self.actor.parameters(), config.actor_rate, fused=True)
        self._critic_step = torch.optim.Adam(self.critic.parameters(), config.critic_rate, fused=True)

    @torch.no_grad()
    def act(self, state: State, sample: bool) -> Tensor:
        """Actions (B, A) in [-1, 1]: drawn, or the distribution's mean."""
        action = self.actor(state.features)
        return (action.sample() if sample else action.mean).clamp(-1.0, 1.0)

    def update(self, start: State) -> float:
        """One step of actor and critic on dreams from states (B, ...) without gradient; their mean return."""
        config = self.config
        with _frozen(self.model):
            features, entropy, arrived = self._dream(start)
            returns, weights = self._returns(arrived)
            gain = returns / self.range.follow(returns) + config.entropy * entropy
            actor_loss = -(weights * gain).mean()
            step(actor_loss, self.actor, self._actor_step, config.clip)
        target = returns.detach()
        critic_loss = self.critic.two_hot.loss(self.critic(features), target)
        critic_loss = (weights * critic_loss).mean()
        step(critic_loss, self.critic, self._critic_step, config.clip)
        with torch.no_grad():
            for own, new in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
                own.lerp_(new, config.slow)
        return float(target.mean())

    def _dream(self, state: State) -> tuple[Tensor, Tensor, Any]:
        """H steps: features (H, B, F) acted on, without gradient; entropies (H, B); states arrived in."""
        features, entropies = [], []
        states: list[Any] = []
        for _ in range(self.config.horizon):
            features.append(state.features.detach())
            choice = self.actor(features[-1])
            drawn = choice.rsample()
            # The world sees the clipped action; the gradient must still bring back a mean that lies outside.
            action = drawn + (drawn.clamp(-1.0, 1.0) - drawn).detach()
            state = self.model.imagine(state, action)
            entropies.append(choice.entropy().sum(-1))
            states.append(state)
        arrived = type(states[0])(*(torch.stack(part) for part in zip(*states, strict=True)))
        return torch.stack(features), torch.stack(entropies), arrived

    def _returns(self, arrived: Any) -> tuple[Tensor, Tensor]:
        """Lambda-returns (H, B), and how likely each step is still part of the episode, without gradient."""
        discounts = self.config.discount * self.model.going_on(arrived)
        returns = lambda_returns(
            self.model.reward(arrived), self.slow_critic.value(arrived.features), discounts, self.config.mix
        )
        reached = discounts.detach() / self.config.discount
        weights = torch.cat([torch.ones_like(reached[:1]), reached[:-1]]).cumprod(0)
        return returns, weights


def step(loss: Tensor, network: nn.Module, optimiser: torch.optim.Optimizer, clip: float) -> None:
    """One optimiser step on `network`. Raises FloatingPointError for a loss that is not finite."""
    if not bool(loss.isfinite()):
        raise FloatingPointError(f"the loss of {type(network).__name__} is {float(loss.detach())}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()


@contextmanager
def _frozen(model: Dream) -> Iterator[None]:
    """Gradients pass through `model`, and none are kept for its weights."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)

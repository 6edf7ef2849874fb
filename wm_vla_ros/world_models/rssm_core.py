"""The recurrent state-space model: what Dreamer dreams with (PlaNet, Hafner et al. 2019; DreamerV3, 2025).

The state at step t is a pair, the deterministic h_t and the stochastic z_t:

    h_t = GRU(h_{t-1}, [z_{t-1}, a_{t-1}])        what follows for certain
    prior      p(z_t | h_t)                       what is expected before looking: all that a dream has
    posterior  q(z_t | h_t, o_t)                  what is known after looking
    heads      o_t, r_t, c_t  from  [h_t, z_t]    observation, reward on arriving at t, whether it goes on

Training maximises the evidence bound with the KL divergence split in two (KL balancing: DreamerV2 and, with
two weights, V3; sg stops the gradient): the prior is drawn to the posterior faster than the other way round,

    dynamics       * max(free, KL(sg(q) || p))
  + representation * max(free, KL(q || sg(p)))

and neither is pushed below `free` nats, or the latent would forget what the decoder does not pay for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models.latent_beliefs import Belief, Categorical, Gaussian, balanced_kl, stack
from wm_vla_ros.world_models.networks import GruCell, Linear, mlp, silent
from wm_vla_ros.world_models.rssm_config import RssmConfig
from wm_vla_ros.world_models.two_hot import TwoHot, symexp, symlog


class State(NamedTuple):
    """h (..., deterministic) and a sample of z (..., stochastic)."""

    deterministic: Tensor
    stochastic: Tensor

    @property
    def features(self) -> Tensor:
        """[h, z] (..., features): what heads, actor and critic read."""
        return torch.cat(self, -1)

    def map(self, change: Callable[[Tensor], Tensor]) -> State:
        """The state with both parts changed alike: reshaped, selected, detached."""
        return State(change(self.deterministic), change(self.stochastic))


class Observed(NamedTuple):
    """A window (B, T, ...) after looking: a sampled state and both distributions per step."""

    states: State
    posterior: Belief
    prior: Belief


class Recurrent(nn.Module):
    """What every RSSM is made of, whatever it looks at: the step, the prior and the posterior."""

    def __init__(self, config: RssmConfig, embedding: int) -> None:
        """embedding: size of what the posterior is told of an observation."""
        super().__init__()
        self.config = config
        self.kind: type[Gaussian] | type[Categorical] = (
            Gaussian if config.latent == "gaussian" else Categorical
        )
        raw = config.stochastic * (2 if config.latent == "gaussian" else 1)
        self.inputs = nn.Sequential(
            Linear(config.stochastic + config.action_dim, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
        )
        self.cell = GruCell(config.hidden, config.deterministic)
        self.prior_head = mlp(config.deterministic, config.hidden, raw, layers=1)
        self.posterior_head = mlp(config.deterministic + embedding, config.hidden, raw, layers=1)

    def initial(self, batch: int) -> State:
        """The state (B, ...) before anything was seen: zeros."""
        like = self.cell.weight_hh
        return State(
            like.new_zeros(batch, self.config.deterministic), like.new_zeros(batch, self.config.stochastic)
        )

    def advance(self, state: State, action: Tensor) -> Tensor:
        """h one step after `action` (B, A) was taken in `state`."""
        return self.cell(self.inputs(torch.cat([state.stochastic, action], -1)), state.deterministic)

    def prior(self, deterministic: Tensor) -> Belief:
        """p(z | h)."""
        return self.kind.of(self.prior_head(deterministic), self.config)

    def posterior(self, deterministic: Tensor, embedded: Tensor) -> Belief:
        """q(z | h, o) for an embedded observation."""
        return self.kind.of(self.posterior_head(torch.cat([deterministic, embedded], -1)), self.config)

    def imagine(self, state: State, action: Tensor, sample: bool = True) -> State:
        """One step of dreaming: the prior alone. sample=False follows its mode."""
        deterministic = self.advance(state, action)
        belief = self.prior(deterministic)
        return State(deterministic, belief.sample() if sample else belief.mode())

    def dream(self, state: State, actions: Tensor, sample: bool = True) -> State:
        """States (B, H, ...) after each of actions (B, H, A), from `state` (B, ...), without looking."""
        states = []
        for step in range(actions.shape[1]):
            state = self.imagine(state, actions[:, step], sample)
            states.append(state)
        return _stack(states)


class Rssm(Recurrent):
    """The model with its heads. Knows observations only as what encoder and decoder make of them.

    encoder: symlog of observations (..., O) -> embeddings (..., embedding). decoder: features (..., features)
    -> symlog of observations (..., O). Without them, multilayer perceptrons over vectors.
    """

    def __init__(
        self,
        config: RssmConfig,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        embedding: int | None = None,
    ) -> None:
        """embedding: size of `encoder`'s output. Raises ValueError for one of the two without the other."""
        if (encoder is None) != (embedding is None):
            raise ValueError("encoder and embedding go together: give both or none")
        encoder = encoder or mlp(config.observation_dim, config.hidden, config.hidden)
        decoder = decoder or mlp(config.features, config.hidden, config.observation_dim)
        super().__init__(config, embedding or config.hidden)
        self.encoder, self.decoder = encoder, decoder
        self.two_hot = TwoHot()
        self.reward_head = silent(mlp(config.features, config.hidden, len(self.two_hot.bins)))
        self.continue_head = mlp(config.features, config.hidden, 1) if config.continues else None

    def embed(self, observations: Tensor) -> Tensor:
        """Embeddings of observations; vectors are seen in symlog."""
        return self.encoder(symlog(observations))

    def look(self, deterministic: Tensor, observations: Tensor, sample: bool = True) -> State:
        """The state after looking, B steps at once: h (B, D), observations (B, O)."""
        belief = self.posterior(deterministic, self.embed(observations))
        return State(deterministic, belief.sample() if sample else belief.mode())

    def observe(self, observations: Tensor, actions: Tensor, sample: bool = True) -> Observed:
        """Filter windows: observations (B, T, O) and the actions (B, T - 1, A) between them."""
        embedded = self.embed(observations)
        deterministic = self.initial(len(observations)).deterministic
        states: list[State] = []
        beliefs: list[Belief] = []
        for step in range(observations.shape[1]):
            if step:
                deterministic = self.advance(states[-1], actions[:, step - 1])
            beliefs.append(self.posterior(deterministic, embedded[:, step]))
            stochastic = beliefs[-1].sample() if sample else beliefs[-1].mode()
            states.append(State(deterministic, stochastic))
        path = _stack(states)
        # The prior needs h alone: one call for the whole window.
        return Observed(path, stack(beliefs), self.prior(path.deterministic))

    def decode(self, state: State) -> Tensor:
        """Observations (..., O) that the states stand for."""
        return symexp(self.decoder(state.features))

    def reward(self, state: State) -> Tensor:
        """Expected reward (...) on arriving in the states."""
        return self.two_hot.mean(self.reward_head(state.features))

    def going_on(self, state: State) -> Tensor:
        """Probability (...) that the episode goes on; 1 without a continue head."""
        if self.continue_head is None:
            return torch.ones_like(state.deterministic[..., 0])
        return self.continue_head(state.features)[..., 0].sigmoid()

    def loss(
        self, observations: Tensor, actions: Tensor, rewards: Tensor, goes_on: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Loss over windows, its terms in nats per step, the posterior states (B, T, ...) without gradient.

        observations (B, T, O); actions, rewards, goes_on (B, T - 1, ...): step t leads from t to t + 1,
        brings the reward, and the episode goes on from there or not (1 or 0; needed with `continues` alone).
        """
        config = self.config
        states, posterior, prior = self.observe(observations, actions)
        arrived = states.map(lambda part: part[:, 1:])
        error = (self.decoder(states.features) - symlog(observations)) / config.observation_std
        terms = {
            "observation": 0.5 * error.square().sum(-1).mean(),
            "reward": self.two_hot.loss(self.reward_head(arrived.features), rewards).mean(),
            **balanced_kl(posterior, prior, config),
        }
        if self.continue_head is not None:
            if goes_on is None:
                raise ValueError("goes_on: a model with continues=True learns it and got none")
            logits = self.continue_head(arrived.features)[..., 0]
            terms["continue"] = F.binary_cross_entropy_with_logits(logits, goes_on)
        return sum(terms.values()), terms, states.map(Tensor.detach)


def _stack(states: list[State]) -> State:
    return State(*(torch.stack(part, 1) for part in zip(*states, strict=True)))

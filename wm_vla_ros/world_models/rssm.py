"""The rssm family: the recurrent state-space model of `rssm_core` behind the contract of all families.

A latent is the state [h, z]. What a single frame says of it is the encoder's [h_0, z_0]: a belief or a plan
can begin anywhere, without a past. Training windows begin there and then run the real filter: the prior from
tick to tick, the posterior at frames that came, their embedding being the frame's own [h, z]. Of these frames
only a share is looked at. The others find a state that was dreamed for a while, and teach its prior how wide
to be.

    evidence bound  mean over frames of  ln p(o | h, z) - KL(q(z | h, o) || p(z | h)),  balanced, with free
                    nats
    heads           reward (success, two-hot) and whether the recording goes on, of the task

A plan follows the prior's mean (Gaussian, PlaNet) or its probabilities (categorical, DreamerV2): one GRU step
a tick, without luck. How wide the prior was is a function of h alone, so every latent of a rollout knows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models import modules, reconstruction
from wm_vla_ros.world_models.family import Graph, LatentWorldModel, Terms, Window
from wm_vla_ros.world_models.latent_beliefs import Belief, Categorical, Gaussian, balanced_kl, pick, stack
from wm_vla_ros.world_models.modules import Encoder, ModelConfig
from wm_vla_ros.world_models.networks import lower, mlp, remembering, silent
from wm_vla_ros.world_models.reconstruction import PICTURE, PROPRIO, Decoder
from wm_vla_ros.world_models.rssm_config import RssmConfig
from wm_vla_ros.world_models.rssm_core import Recurrent, State
from wm_vla_ros.world_models.two_hot import TwoHot

if TYPE_CHECKING:
    from wm_vla_ros.data.lerobot_reader import EpisodeArrays

# Bins of reward, which is 0 or 1.
_BINS, _REACH = 21, 1.0
# Reconstructed latents a step, and ticks between those that heads are trained on.
_DECODED, _EVERY = 192, 8


@dataclass(frozen=True, slots=True)
class RssmOptions:
    """Sizes, and weights of the terms beside `LossConfig`.

    latent, deterministic, variables, classes, hidden, dynamics, representation, free: see `RssmConfig`.
    std: of the decoder's likelihood. evidence: weight of a nat of the bound; reconstruction: of its first
    half. reward, goes_on: of the heads. looked: share of later frames that the filter is shown.
    grounded: whether metres shape the latent too.
    """

    latent: str = "gaussian"
    deterministic: int = 96
    variables: int = 32
    classes: int = 32
    hidden: int = 192
    dynamics: float = 1.0
    representation: float = 0.1
    free: float = 1.0
    std: float = 0.1
    evidence: float = 0.003
    reconstruction: float = 1.0
    reward: float = 0.1
    goes_on: float = 0.1
    looked: float = 0.3
    grounded: bool = True

    def sizes(self, config: ModelConfig) -> RssmConfig:
        """Raises ValueError for those that `RssmConfig` refuses."""
        return RssmConfig(
            config.proprio_dim,
            config.action_dim,
            self.latent,
            self.deterministic,
            self.variables,
            self.classes,
            self.hidden,
            self.std,
            self.dynamics,
            self.representation,
            self.free,
            continues=True,
        )


class Dynamics(modules.StochasticTransition):
    """h' = GRU(h, [z, a]), z' = the expectation of p(z | h')."""

    def __init__(self, sizes: RssmConfig) -> None:
        super().__init__(sizes.action_dim)
        self.core = Recurrent(sizes, embedding=sizes.features)
        remembering(self.core.cell)
        # What a probability's class is cannot be told from the other tensors' shapes.
        self.register_buffer("classes", torch.zeros(sizes.classes if sizes.latent == "categorical" else 0))

    @classmethod
    def sized(cls, tensors: Mapping[str, Tensor], latent_dim: int, action_dim: int) -> Self:
        hidden, inputs = tensors["core.inputs.0.weight"].shape
        stochastic, classes = inputs - action_dim, len(tensors["classes"])
        return cls(
            RssmConfig(
                1,
                action_dim,
                "categorical" if classes else "gaussian",
                latent_dim - stochastic,
                stochastic // max(classes, 1),
                max(classes, 1),
                hidden,
            )
        )

    def lower(self, precision: torch.dtype) -> None:
        lower(self.core, precision)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        h = self.core.advance(self.state(latent), self.normalised(action))
        return torch.cat([h, self.core.prior(h).expectation()], -1)

    def dream(self, latent: Tensor, action: Tensor, temperature: float = 1.0) -> Tensor:
        h = self.core.advance(self.state(latent), self.normalised(action))
        return torch.cat([h, self.core.prior(h).cooled(temperature).sample()], -1)

    def variance(self, latent: Tensor, readout: Tensor) -> Tensor:
        h = self.state(latent).deterministic
        return self.core.prior(h).variance(readout[h.shape[-1] :])

    def state(self, latent: Tensor) -> State:
        """[h, z] (..., D) as a state."""
        deterministic = self.core.config.deterministic
        return State(latent[..., :deterministic], latent[..., deterministic:])


class InitialState(nn.Module):
    """What a single frame says of the state: numbers (..., D) to h in (-1, 1) and z, or its probabilities."""

    def __init__(self, sizes: RssmConfig) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        h, z = x[..., : self.sizes.deterministic], x[..., self.sizes.deterministic :]
        if self.sizes.latent == "categorical":
            z = Categorical.of(z, self.sizes).expectation()
        return torch.cat([h.tanh(), z], -1)


class Filtered(NamedTuple):
    """A window after filtering. states: (B, T + 1, D) that it went through, the first one's included.

    came: (B, T) whether a frame came after each action. Of those N, in their order: prior, posterior, and
    `seen`, (N, D) states drawn from the posterior whether the filter went on from there or not.
    """

    states: Tensor
    came: Tensor
    prior: Belief
    posterior: Belief
    seen: Tensor


class RssmWorldModel(LatentWorldModel):
    """The filter's losses beside those that all share."""

    family = "rssm"
    dynamics_type = Dynamics

    def __init__(self, config: ModelConfig, options: RssmOptions | None = None) -> None:
        """config.latent_dim is taken from the options."""
        own = options or RssmOptions()
        sizes = own.sizes(config)
        config = replace(config, latent_dim=sizes.features)
        dynamics = Dynamics(sizes)
        super().__init__(config, Encoder(config, InitialState(sizes)), dynamics)
        self.own, self.sizes = own, sizes
        self.decoder = Decoder(config, sizes.features, sizes.hidden, own.std)
        self.two_hot = TwoHot(_BINS, -_REACH, _REACH)
        asked = sizes.features + len(config.tasks)
        self.reward_head = silent(mlp(asked, sizes.hidden, _BINS, layers=1))
        self.continue_head = mlp(asked, sizes.hidden, 1, layers=1)

    def options(self) -> dict[str, Any]:
        return asdict(self.own)

    def metadata(self) -> dict[str, str]:
        """The tasks by their index: without them nobody can ask a head."""
        return {"tasks": json.dumps(self.config.tasks)}

    def graphs(self) -> dict[str, Graph]:
        """What draws a latent, where one was trained."""
        size = self.config.latent_dim
        return reconstruction.graphs(self.decoder, size, size) if self.own.reconstruction else {}

    def readable(self, latents: Tensor) -> Tensor:
        return latents if self.own.grounded else latents.detach()

    def rewards(self, latents: Tensor, tasks: Tensor) -> Tensor:
        """(N,) expected success in latents (N, D) under tasks (N,)."""
        return self.two_hot.mean(self.reward_head(self._asked(latents, tasks)))

    def going_on(self, latents: Tensor, tasks: Tensor) -> Tensor:
        """(N,) probability that a recording of the task would go on from latents (N, D)."""
        return self.continue_head(self._asked(latents, tasks))[:, 0].sigmoid()

    def row_targets(self, data: EpisodeArrays) -> dict[str, NDArray]:
        """What is reconstructed, and task, success and whether the recording goes on, of every row.

        A recording ends some ticks after success. demonstration: as `Implicit.row_targets` has it.
        """
        task = data.episode_tasks[data.row_episode()]
        ended = np.zeros(len(task), bool)
        ended[data.starts[1:] - 1] = True
        return {
            **reconstruction.row_targets(data, self.config),
            "task": task,
            "demonstration": np.isin(task, np.unique(task[data.success])),
            "success": data.success.astype(np.float32),
            "goes_on": (~(ended & data.success)).astype(np.float32),
        }

    def first(self, latent: Tensor) -> Belief:
        """q(z_0 | o_0) of encoded latents (B, D), whose mean they hold."""
        state = self.dynamics.state(latent)
        if self.sizes.latent == "categorical":
            share = state.stochastic.unflatten(-1, (self.sizes.variables, self.sizes.classes))
            return Categorical(share.log())
        posterior = self.dynamics.core.posterior(state.deterministic, latent)
        return Gaussian(state.stochastic, posterior.std)

    def filter(self, latent: Tensor, window: Window) -> Filtered:
        """Run from encoded latents (B, D) through a window (B, T, ...), drawing every z."""
        if window.later is None or window.later_ticks is None:
            raise ValueError("rssm: expected the latents of later frames in a window, got none")
        core, (batch, ticks) = self.dynamics.core, window.actions.shape[:2]
        embedded = latent.new_zeros(batch, ticks, latent.shape[1])
        came = torch.zeros(batch, ticks, dtype=torch.bool, device=latent.device)
        rows = torch.arange(batch, device=latent.device)[:, None].expand_as(window.later_ticks)
        embedded[rows, window.later_ticks - 1] = window.later
        came[rows, window.later_ticks - 1] = True
        looked = came & (torch.rand(came.shape, device=latent.device) < self.own.looked)
        actions = self.dynamics.normalised(window.actions)
        state = State(self.dynamics.state(latent).deterministic, self.first(latent).sample())
        states, seen, priors, posteriors = [state.features], [], [], []
        frames = came.any(0).nonzero()[:, 0].tolist()
        for tick in range(ticks):
            h = core.advance(state, actions[:, tick])
            prior = core.prior(h)
            z = prior.sample()
            if tick in frames:
                priors.append(prior)
                posteriors.append(core.posterior(h, embedded[:, tick]))
                drawn = posteriors[-1].sample()
                seen.append(torch.cat([h, drawn], -1))
                z = torch.where(looked[:, tick, None], drawn, z)
            state = State(h, z)
            states.append(state.features)
        mine = came[:, frames]
        prior, posterior = (pick(stack(beliefs), mine) for beliefs in (priors, posteriors))
        return Filtered(torch.stack(states, 1), came, prior, posterior, torch.stack(seen, 1)[mine])

    def window_terms(self, latent: Tensor, predictions: Tensor, window: Window) -> Terms:
        own, went = self.own, self.filter(latent, window)
        divergence = balanced_kl(went.posterior, went.prior, self.sizes)
        expected = self.dynamics.core.prior(self.dynamics.state(latent).deterministic)
        begun = balanced_kl(self.first(latent), expected, self.sizes)
        terms = {name: own.evidence * (term + begun[name]) for name, term in divergence.items()}
        if own.reconstruction:
            terms["reconstruction"] = own.evidence * own.reconstruction * self._reconstruction(went, window)
        return terms | self._head_terms(went.states, window.known)

    @torch.no_grad()
    def held_out(
        self, latents: Tensor, known: Mapping[str, Tensor], episode: NDArray[np.int64]
    ) -> dict[str, float]:
        """Error of the pictures over the mean picture's, and of reward where there are demonstrations."""
        figures = reconstruction.held_out_ratio(self.decoder, latents, known)
        shown = known["demonstration"]
        if bool(shown.any()):
            error = self.rewards(latents[shown], known["task"][shown]) - known["success"][shown]
            figures["reward.mean_error"] = float(error.abs().mean())
        return figures

    def _reconstruction(self, went: Filtered, window: Window) -> Tensor:
        """Nats per frame, of at most `_DECODED` frames, the windows' first among them."""
        latents = torch.cat([went.states[:, 0], went.seen])
        known = {
            name: torch.cat([values[:, 0], values[:, 1:][went.came]])
            for name, values in window.known.items()
            if name == PROPRIO or name.startswith(PICTURE)
        }
        some = torch.randperm(len(latents), device=latents.device)[:_DECODED]
        known = {name: values[some] for name, values in known.items()}
        encoder = self.encoder
        proprio = (known[PROPRIO] - encoder.proprio_mean) * encoder.proprio_scale
        return self.decoder.loss(latents[some], proprio, self.decoder.known(known))

    def _head_terms(self, states: Tensor, known: Mapping[str, Tensor]) -> Terms:
        """Of every few states of demonstrations: play is nobody's example."""
        states = states[:, ::_EVERY]
        known = {name: known[name][:, ::_EVERY] for name in ("demonstration", "task", "success", "goes_on")}
        shown = known["demonstration"]
        if not bool(shown.any()):
            return {}
        asked = self._asked(states[shown], known["task"][shown])
        reward = self.two_hot.loss(self.reward_head(asked), known["success"][shown]).mean()
        goes_on = F.binary_cross_entropy_with_logits(self.continue_head(asked)[:, 0], known["goes_on"][shown])
        return {"reward": self.own.reward * reward, "goes_on": self.own.goes_on * goes_on}

    def _asked(self, latents: Tensor, tasks: Tensor) -> Tensor:
        return torch.cat([latents, F.one_hot(tasks, len(self.config.tasks)).to(latents.dtype)], -1)

"""The mdn_rnn family, after Ha and Schmidhuber, "World Models" (NeurIPS 2018): its V and M.

V, the vision, is a variational autoencoder of one observation: z ~ N(mu, sigma), with

    ln p(o | z) - KL(N(mu, sigma) || N(0, 1)).

M, the memory, is a recurrent network whose output is a mixture density (Bishop, "Mixture Density Networks",
1994) over the next z:

    h' = GRU(h, [z, a]),    p(z' | h') = sum over k of  pi_k N(z'; z + mu_k, sigma_k).

A temperature tau makes the dream more or less certain: pi_k to the power of 1 / tau, and sigma_k sqrt(tau).

A latent is [h, z]. Departures: h begins as a function of z, not as zeros, so that a belief can begin at any
frame; a GRU stands for the LSTM, one state to carry instead of two; a mixture is over whole vectors z, as in
Bishop, where theirs has one for each of its entries; means are relative to the last z, so that a tick without
change is easy. Frames come at every few ticks only, and of those M is shown a share: in between it goes on
from its own mean, and its mixture learns how wide to be after so long. The encoder is trained together with M
for a while (the stage `joint`), and then rests while M learns on, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import log, pi
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models import modules, reconstruction
from wm_vla_ros.world_models.family import Graph, LatentWorldModel, Terms, Window
from wm_vla_ros.world_models.latent_beliefs import check_temperature
from wm_vla_ros.world_models.modules import Encoder, ModelConfig
from wm_vla_ros.world_models.networks import GruCell, Linear, lower, remembering
from wm_vla_ros.world_models.reconstruction import PROPRIO, Decoder

if TYPE_CHECKING:
    from wm_vla_ros.data.lerobot_reader import EpisodeArrays

# No component is surer than this, in units of the latent's own spread: a likelihood has no upper bound.
_LEAST_STD = 0.02


@dataclass(frozen=True, slots=True)
class MdnRnnOptions:
    """Sizes, and weights of the terms beside `LossConfig`.

    variables: of z; memory: of h; components: of the mixture. std: of the decoder's likelihood. evidence:
    weight of a nat, of V's bound and of M's likelihood; reconstruction, divergence: of the halves of V's
    bound. looked: share of later frames that M is shown. grounded: whether metres shape the latent too.
    """

    variables: int = 48
    memory: int = 80
    components: int = 5
    hidden: int = 192
    std: float = 0.1
    evidence: float = 0.003
    reconstruction: float = 1.0
    divergence: float = 1.0
    looked: float = 0.3
    grounded: bool = True


class Mixture(NamedTuple):
    """K Gaussians with diagonal covariance: log-weights (..., K); means and deviations (..., K, Z)."""

    log_weights: Tensor
    means: Tensor
    stds: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        """(...) log-density at z (..., Z)."""
        error = (z.unsqueeze(-2) - self.means) / self.stds
        each = -0.5 * error.square() - self.stds.log() - 0.5 * log(2.0 * pi)
        return torch.logsumexp(self.log_weights + each.sum(-1), -1)

    def mean(self) -> Tensor:
        """(..., Z)."""
        return (self.log_weights.exp().unsqueeze(-1) * self.means).sum(-2)

    def mode(self) -> Tensor:
        """(..., Z) mean of the likeliest component."""
        best = self.log_weights.argmax(-1)[..., None, None]
        return self.means.gather(-2, best.expand(*best.shape[:-1], self.means.shape[-1])).squeeze(-2)

    def cooled(self, temperature: float) -> Mixture:
        """At another temperature: 1 is the mixture itself. Raises ValueError unless it is positive."""
        check_temperature(temperature)
        weights = (self.log_weights / temperature).log_softmax(-1)
        return Mixture(weights, self.means, self.stds * temperature**0.5)

    def sample(self) -> Tensor:
        """(..., Z); no gradient reaches the weights."""
        # Gumbel-max: draws from the weights, and keeps any leading shape.
        noise = -torch.empty_like(self.log_weights).exponential_().log()
        chosen = (self.log_weights + noise).argmax(-1)[..., None, None]
        chosen = chosen.expand(*chosen.shape[:-1], self.means.shape[-1])
        mean, std = (part.gather(-2, chosen).squeeze(-2) for part in (self.means, self.stds))
        return mean + std * torch.randn_like(std)

    def variance(self, readout: Tensor) -> Tensor:
        """(..., G) of a linear reading, readout (Z, G): within the components, and between them."""
        weights, read = self.log_weights.exp().unsqueeze(-1), self.means @ readout
        within = (weights * (self.stds.square() @ readout.square())).sum(-2)
        between = (weights * (read - (weights * read).sum(-2, keepdim=True)).square()).sum(-2)
        return within + between


class Dynamics(modules.StochasticTransition):
    """M. Follows the mixture's mean; `dream` draws from it."""

    def __init__(self, action_dim: int, variables: int, memory: int, components: int) -> None:
        super().__init__(action_dim)
        self.variables, self.components = variables, components
        self.cell = remembering(GruCell(variables + action_dim, memory))
        self.weigh = Linear(memory, components)
        self.move = Linear(memory, components * variables)
        self.spread = Linear(memory, components * variables)
        # Starts as persistence, with components that differ a little.
        nn.init.zeros_(self.move.bias)
        nn.init.normal_(self.move.weight, std=0.01)

    @classmethod
    def sized(cls, tensors: Mapping[str, Tensor], latent_dim: int, action_dim: int) -> Self:
        memory = tensors["cell.weight_hh"].shape[1]
        return cls(action_dim, latent_dim - memory, memory, len(tensors["weigh.bias"]))

    def lower(self, precision: torch.dtype) -> None:
        lower(self, precision)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        h, mixture = self.expect(latent, action)
        return torch.cat([h, mixture.mean()], -1)

    def dream(self, latent: Tensor, action: Tensor, temperature: float = 1.0) -> Tensor:
        h, mixture = self.expect(latent, action)
        return torch.cat([h, mixture.cooled(temperature).sample()], -1)

    def expect(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Mixture]:
        """h (B, memory) after an action (B, A) in latents (B, D), and what z is expected to be."""
        h, z = self.split(latent)
        h = self.cell(torch.cat([z, self.normalised(action)], -1), h)
        return h, self.mixture(h, z)

    def mixture(self, h: Tensor, z: Tensor) -> Mixture:
        """p(z' | h') for h' (B, memory) and the z (B, Z) that came before."""
        moves, spreads = (
            layer(h).unflatten(-1, (self.components, self.variables)) for layer in (self.move, self.spread)
        )
        return Mixture(
            self.weigh(h).log_softmax(-1), z.unsqueeze(-2) + moves, F.softplus(spreads) + _LEAST_STD
        )

    def variance(self, latent: Tensor, readout: Tensor) -> Tensor:
        h, z = self.split(latent)
        # Where the last z was does not matter to a variance.
        return self.mixture(h, torch.zeros_like(z)).variance(readout[h.shape[-1] :])

    def split(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """h and z of latents [h, z] (..., D)."""
        return latent[..., : -self.variables], latent[..., -self.variables :]


class InitialState(nn.Module):
    """z (..., Z) -> [h_0, z]: the memory of somebody who has seen this frame alone."""

    def __init__(self, variables: int, memory: int) -> None:
        super().__init__()
        self.linear = nn.Linear(variables, memory)

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.linear(z).tanh(), z], -1)


class MdnRnn(LatentWorldModel):
    """V and M."""

    family = "mdn_rnn"
    dynamics_type = Dynamics

    def __init__(self, config: ModelConfig, options: MdnRnnOptions | None = None) -> None:
        """config.latent_dim is taken from the options."""
        own = options or MdnRnnOptions()
        variables, memory = own.variables, own.memory
        config = replace(config, latent_dim=variables + memory)
        encoder = Encoder(replace(config, latent_dim=variables), InitialState(variables, memory))
        super().__init__(config, encoder, Dynamics(config.action_dim, variables, memory, own.components))
        self.own = own
        self.log_std = nn.Linear(variables, variables)
        nn.init.constant_(self.log_std.bias, -2.0)
        self.decoder = Decoder(config, variables, own.hidden, own.std)

    def options(self) -> dict[str, Any]:
        return asdict(self.own)

    def graphs(self) -> dict[str, Graph]:
        """What draws a latent's z, where one was trained."""
        if not self.own.reconstruction:
            return {}
        return reconstruction.graphs(self.decoder, self.config.latent_dim, self.own.variables)

    def readable(self, latents: Tensor) -> Tensor:
        return latents if self.own.grounded else latents.detach()

    def row_targets(self, data: EpisodeArrays) -> dict[str, NDArray]:
        return reconstruction.row_targets(data, self.config)

    def drawn(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """z ~ V's N(mu, sigma) of encoded latents (..., D), and ln sigma."""
        z = self.dynamics.split(latents)[1]
        log_std = self.log_std(z)
        return z + log_std.exp() * torch.randn_like(z), log_std

    def frame_terms(self, latent: Tensor, known: Mapping[str, Tensor]) -> Terms:
        """V's bound: nats of reconstruction, and of divergence from N(0, 1)."""
        own, encoder = self.own, self.encoder
        z, log_std = self.drawn(latent)
        mean = self.dynamics.split(latent)[1]
        kl = 0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0 - 2.0 * log_std).sum(-1).mean()
        terms = {"divergence": own.evidence * own.divergence * kl}
        if own.reconstruction:
            proprio = (known[PROPRIO] - encoder.proprio_mean) * encoder.proprio_scale
            nats = self.decoder.loss(z, proprio, self.decoder.known(known))
            terms["reconstruction"] = own.evidence * own.reconstruction * nats
        return terms

    def window_terms(self, latent: Tensor, predictions: Tensor, window: Window) -> Terms:
        """M's negative log-likelihood of the frames that came, and V's terms of the first."""
        terms = {"likelihood": -self.own.evidence * self.likelihood(latent, window)}
        if latent.requires_grad:
            terms |= self.frame_terms(latent, {name: values[:, 0] for name, values in window.known.items()})
        return terms

    def likelihood(self, latent: Tensor, window: Window) -> Tensor:
        """Mean log-density of later frames' z, drawn from V, under M's mixtures."""
        if window.later is None or window.later_ticks is None:
            raise ValueError("mdn_rnn: expected the latents of later frames in a window, got none")
        batch, ticks = window.actions.shape[:2]
        rows = torch.arange(batch, device=latent.device)[:, None].expand_as(window.later_ticks)
        came = torch.zeros(batch, ticks, dtype=torch.bool, device=latent.device)
        came[rows, window.later_ticks - 1] = True
        targets = latent.new_zeros(batch, ticks, self.own.variables)
        targets[rows, window.later_ticks - 1] = self.drawn(window.later)[0].detach()
        looked = came & (torch.rand(came.shape, device=latent.device) < self.own.looked)
        nats = []
        for tick in range(ticks):
            h, mixture = self.dynamics.expect(latent, window.actions[:, tick])
            nats.append(mixture.log_prob(targets[:, tick]))
            z = torch.where(looked[:, tick, None], targets[:, tick], mixture.mean())
            latent = torch.cat([h, z], -1)
        return torch.stack(nats, 1)[came].mean()

    @torch.no_grad()
    def held_out(
        self, latents: Tensor, known: Mapping[str, Tensor], episode: NDArray[np.int64]
    ) -> dict[str, float]:
        """Error of the pictures over the mean picture's."""
        return reconstruction.held_out_ratio(self.decoder, self.dynamics.split(latents)[1], known)

"""What an RSSM says of its stochastic latent: a distribution, its divergence from another, its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from wm_vla_ros.world_models.rssm_config import RssmConfig

# No Gaussian latent is surer of itself than this (PlaNet, appendix A).
_LEAST_STD = 0.1
# Share of a uniform distribution in every categorical one: no class is ever impossible (DreamerV3, "unimix").
_UNIFORM = 0.01


class Gaussian(NamedTuple):
    """Independent normal variables, (..., variables) both."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, raw: Tensor, config: RssmConfig) -> Gaussian:
        """From a network's output (..., 2 variables)."""
        mean, std = raw.chunk(2, -1)
        return cls(mean, F.softplus(std) + _LEAST_STD)

    def sample(self) -> Tensor:
        """Reparametrised: gradients reach mean and std."""
        return self.mean + self.std * torch.randn_like(self.std)

    def mode(self) -> Tensor:
        return self.mean

    def expectation(self) -> Tensor:
        return self.mean

    def variance(self, readout: Tensor) -> Tensor:
        """(..., G) of a linear reading of the sample, readout (variables, G)."""
        return self.std.square() @ readout.square()

    def cooled(self, temperature: float) -> Gaussian:
        """At another temperature: the deviation times its root."""
        return Gaussian(self.mean, self.std * check_temperature(temperature) ** 0.5)

    def detach(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.std.detach())

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other), summed over the variables: (...)."""
        ratio = (self.std / other.std).square()
        distance = ((self.mean - other.mean) / other.std).square()
        return 0.5 * (ratio + distance - 1.0 - ratio.log()).sum(-1)


class Categorical(NamedTuple):
    """Independent one-hot variables: log-probabilities (..., variables, classes)."""

    log: Tensor

    @classmethod
    def of(cls, raw: Tensor, config: RssmConfig) -> Categorical:
        """From a network's output (..., variables * classes)."""
        share = raw.unflatten(-1, (config.variables, config.classes)).softmax(-1)
        return cls(((1.0 - _UNIFORM) * share + _UNIFORM / config.classes).log())

    def sample(self) -> Tensor:
        """One-hot vectors, flat; gradients pass straight through to the probabilities (DreamerV2)."""
        share = self.log.exp()
        # Gumbel-max draws from the distribution in two operations, and keeps any leading shape.
        drawn = (self.log - torch.empty_like(self.log).exponential_().log()).argmax(-1)
        return (F.one_hot(drawn, share.shape[-1]) + share - share.detach()).flatten(-2)

    def mode(self) -> Tensor:
        share = self.log.exp()
        return (F.one_hot(share.argmax(-1), share.shape[-1]) + share - share.detach()).flatten(-2)

    def expectation(self) -> Tensor:
        """The probabilities, flat: every class by its share."""
        return self.log.exp().flatten(-2)

    def variance(self, readout: Tensor) -> Tensor:
        """(..., G) of a linear reading of the sample, readout (variables * classes, G)."""
        share, by_class = self.log.exp(), readout.unflatten(0, self.log.shape[-2:])
        mean = torch.einsum("...vc,vcg->...vg", share, by_class)
        square = torch.einsum("...vc,vcg->...vg", share, by_class.square())
        return (square - mean.square()).clamp(min=0.0).sum(-2)

    def cooled(self, temperature: float) -> Categorical:
        """At another temperature: probabilities to the power of its inverse."""
        return Categorical((self.log / check_temperature(temperature)).log_softmax(-1))

    def detach(self) -> Categorical:
        return Categorical(self.log.detach())

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other), summed over the variables: (...)."""
        return (self.log.exp() * (self.log - other.log)).sum((-2, -1))


Belief = Gaussian | Categorical


def balanced_kl(posterior: Belief, prior: Belief, config: RssmConfig) -> dict[str, Tensor]:
    """Both halves of the divergence, weighted, each cut at the free nats per step."""
    dynamics = posterior.detach().kl(prior)  # type: ignore[arg-type]
    representation = posterior.kl(prior.detach())  # type: ignore[arg-type]
    return {
        "dynamics": config.dynamics * dynamics.clamp(min=config.free).mean(),
        "representation": config.representation * representation.clamp(min=config.free).mean(),
    }


def check_temperature(temperature: float) -> float:
    """The temperature itself. Raises ValueError unless it is positive."""
    if not temperature > 0.0:
        raise ValueError(f"temperature: expected a positive number, got {temperature}")
    return temperature


def pick(belief: Belief, chosen: Tensor) -> Belief:
    """The beliefs (N, ...) at those places of (B, T, ...) where `chosen` (B, T) is true."""
    return type(belief)(*(part[chosen] for part in belief))


def stack(beliefs: list[Belief]) -> Belief:
    """T beliefs (B, ...) as one (B, T, ...)."""
    return type(beliefs[0])(*(torch.stack(part, 1) for part in zip(*beliefs, strict=True)))

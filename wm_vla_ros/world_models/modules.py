"""What families of world models in torch are made of: encoder, transitions, linear grounding.

A latent is a normalised vector of one camera frame and the proprioception of the same instant. Grounding is
linear, so that "near in the latent" and "near in metres" cannot drift apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[Tensor], Tensor]

PATCH = 4
# Gain before the keypoints' softmax. Near-flat maps at the start all point at the middle and teach nothing:
# at a gain of 1 cubes are still 7 cm off after as many steps as bring them to 5 mm at 20.
SHARPNESS = 20.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes. cameras: name, height and width, each a multiple of 4 pixels. tasks: the data's instructions.

    tip, objects: columns x, y, z of the grounded positions, of the fingertip and of each thing that it may
    push; empty where there are none, or positions are no metres.
    """

    cameras: tuple[tuple[str, int, int], ...]
    proprio_dim: int
    action_dim: int
    grounding_dim: int
    latent_dim: int = 128
    hidden: int = 256
    channels: int = 32
    keypoints: int = 32
    tasks: tuple[str, ...] = ()
    tip: tuple[int, ...] = ()
    objects: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, height, width in self.cameras:
            if height % PATCH or width % PATCH:
                raise ValueError(f"camera {name!r}: expected multiples of {PATCH}, got {height}x{width}")


class Vision(nn.Module):
    """One camera: (B, H, W, 3) uint8 -> (B, 3 * keypoints + channels) float32.

    The image is folded 4x4 into channels first: a 3-channel convolution at full size is what costs on a
    CPU. Soft-argmax keypoints (Finn et al., 2016) give positions finer than a cell; the mean of the trunk
    gives the rest.
    """

    def __init__(self, height: int, width: int, channels: int, keypoints: int) -> None:
        super().__init__()
        self.rows, self.columns = height // PATCH, width // PATCH
        self.trunk = nn.Sequential(
            nn.Conv2d(3 * PATCH * PATCH, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
        ).to(memory_format=torch.channels_last)
        self.heads = nn.Conv2d(channels, keypoints, 1)
        self.features = 3 * keypoints + channels
        self.register_buffer("x", torch.linspace(-1, 1, self.columns), persistent=False)
        self.register_buffer("y", torch.linspace(-1, 1, self.rows), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        folded = image.reshape(-1, self.rows, PATCH, self.columns, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
        folded = folded.reshape(-1, self.rows, self.columns, 3 * PATCH * PATCH).permute(0, 3, 1, 2)
        trunk = self.trunk(folded.to(torch.float32) / 127.5 - 1.0)
        # Positions need more than the 8 bits of a bfloat16 mantissa.
        scores = self.heads(trunk).float() * SHARPNESS
        flat = scores.flatten(2)
        weights = flat.softmax(-1)
        maps = weights.view_as(scores)
        across = (maps.sum(2) * self.x).sum(-1)
        down = (maps.sum(3) * self.y).sum(-1)
        # How peaked each map is: whether the thing it looks for is in view.
        peak = (weights * flat).sum(-1) * 0.1
        return torch.cat([across, down, peak, trunk.float().mean((2, 3))], 1)


class Encoder(nn.Module):
    """Images and proprioception -> latent (B, D), through the family's `norm`.

    frozen: what it sees is never learned, so that a trainer looks at every frame once.
    """

    frozen: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, norm: Norm) -> None:
        super().__init__()
        self.norm = norm
        self.vision = nn.ModuleList(
            Vision(height, width, config.channels, config.keypoints) for _, height, width in config.cameras
        )
        features = sum(camera.features for camera in self.vision) + config.proprio_dim
        self.linear = nn.Linear(features, config.latent_dim)
        self.mlp = nn.Sequential(
            nn.Linear(features, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.latent_dim),
        )
        self.register_buffer("proprio_mean", torch.zeros(config.proprio_dim))
        self.register_buffer("proprio_scale", torch.ones(config.proprio_dim))

    def forward(self, images: list[Tensor], proprio: Tensor) -> Tensor:
        return self.fuse(self.see(images), proprio)

    def see(self, images: list[Tensor]) -> Tensor:
        """Visual features; the part that may run under bfloat16 autocast, as `fuse` may not.

        Without a camera an empty vector, which `fuse` leaves out.
        """
        if not self.vision:
            return self.proprio_mean.new_zeros(0)
        return torch.cat([camera(image) for camera, image in zip(self.vision, images, strict=True)], 1)

    def fuse(self, seen: Tensor, proprio: Tensor) -> Tensor:
        """Visual features and proprioception -> latent, in float32: it carries millimetres."""
        state = (proprio - self.proprio_mean) * self.proprio_scale
        features = torch.cat([seen, state], 1) if self.vision else state
        # The linear path carries positions and joints through unbent.
        return self.norm(self.linear(features) + self.mlp(features))


class Transition(nn.Module, ABC):
    """(latent (B, D), action (B, A)) -> the latent one tick later: what a planner asks of a family."""

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.register_buffer("action_mean", torch.zeros(action_dim))
        self.register_buffer("action_scale", torch.ones(action_dim))

    @classmethod
    @abstractmethod
    def sized(cls, tensors: Mapping[str, Tensor], latent_dim: int, action_dim: int) -> Self:
        """One of the sizes of `tensors`, its own by name, without their values.

        Raises KeyError naming a tensor that it needs for that and does not find.
        """

    @abstractmethod
    def lower(self, precision: torch.dtype) -> None:
        """Make the matrix products in `precision`, once the weights are loaded; latents stay in float32."""

    @abstractmethod
    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """The expected latent (B, D)."""

    @property
    def touches(self) -> bool:
        """Whether it has a part of its own for what touching does to objects."""
        return False

    def look(self, weight: Tensor, bias: Tensor) -> None:
        """Take over how grounding reads a latent, weight (D, G) and bias (G,), where that is of use."""

    def rollout(self, latent: Tensor, actions: Tensor) -> Tensor:
        """(B, D), (B, H, A) -> (B, H, D): the latents after each action."""
        latents = []
        for step in range(actions.shape[1]):
            latent = self(latent, actions[:, step])
            latents.append(latent)
        return torch.stack(latents, 1)

    def normalised(self, action: Tensor) -> Tensor:
        """Actions (..., A) in units of the data's."""
        return (action - self.action_mean) * self.action_scale


class StochasticTransition(Transition):
    """A transition that knows a distribution over latents, of which `forward` gives the mean."""

    @abstractmethod
    def dream(self, latent: Tensor, action: Tensor, temperature: float = 1.0) -> Tensor:
        """A latent (B, D) one tick later, drawn. temperature: above 1 the dream is wilder, near 0 it is sure.

        Raises ValueError unless the temperature is positive.
        """

    @abstractmethod
    def variance(self, latent: Tensor, readout: Tensor) -> Tensor:
        """(B, G) variance that a linear reading, (D, G), had before `latent` (B, D) was settled on.

        Of latents that the transition made: their memory tells how sure it was of them.
        """


class Dynamics(Transition):
    """One residual MLP per tick. A family says in `settle` how a change is taken into a latent."""

    # Of the matrix products; state, residual and normalisation stay in float32.
    precision = torch.float32

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.action_dim)
        self.latent_in = nn.Linear(config.latent_dim, config.hidden)
        self.action_in = nn.Linear(config.action_dim, config.hidden, bias=False)
        self.hidden = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, config.latent_dim)
        # Starts as persistence: a small residual is what a tick is.
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.out.weight, std=0.01)

    @classmethod
    def sized(cls, tensors: Mapping[str, Tensor], latent_dim: int, action_dim: int) -> Self:
        hidden = len(tensors["latent_in.weight"])
        return cls(ModelConfig((), 0, action_dim, 0, latent_dim=latent_dim, hidden=hidden))

    @abstractmethod
    def settle(self, latent: Tensor, change: Tensor) -> Tensor:
        """The latent (B, D) after a change (B, D), among the latents that the encoder makes."""

    def lower(self, precision: torch.dtype) -> None:
        self.precision = precision
        for layer in (self.latent_in, self.action_in, self.hidden, self.out):
            layer.to(precision)

    def change(self, latent: Tensor, action: Tensor, embedded: Tensor) -> Tensor:
        """What a tick changes of the latent (B, D). action: (B, A) normalised, embedded: (B, hidden)."""
        x = F.silu(self.latent_in(latent.to(self.precision)) + embedded)
        x = F.silu(self.hidden(x))
        return self.out(x).float()

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        action = self.normalised(action)
        return self.settle(latent, self.change(latent, action, self._embedded(action)))

    def rollout(self, latent: Tensor, actions: Tensor) -> Tensor:
        actions = self.normalised(actions)
        embedded = self._embedded(actions)
        latents = []
        for step in range(actions.shape[1]):
            latent = self.settle(latent, self.change(latent, actions[:, step], embedded[:, step]))
            latents.append(latent)
        return torch.stack(latents, 1)

    def _embedded(self, normalised: Tensor) -> Tensor:
        return self.action_in(normalised.to(self.precision))


class Grounding(nn.Module):
    """latent (..., D) -> metres (..., G), linear."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.latent_dim, config.grounding_dim)
        self.register_buffer("mean", torch.zeros(config.grounding_dim))
        self.register_buffer("std", torch.ones(config.grounding_dim))

    def forward(self, latent: Tensor) -> Tensor:
        return self.linear(latent) * self.std + self.mean

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same map as one weight (D, G) and one bias (G,)."""
        weight = (self.linear.weight * self.std[:, None]).T.contiguous()
        return weight, self.linear.bias * self.std + self.mean

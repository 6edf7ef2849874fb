"""The latent_dynamics family in torch: encoder, dynamics and grounding, to train and to export.

A latent is a layer-normalised vector of one camera frame and the proprioception of the same instant.
Dynamics is one residual MLP per control tick, normalised again, as in TD-MPC (Hansen et al., 2022) and
SPR (Schwarzer et al., 2021): predictions live on the same sphere as encodings, so distances compare.
Grounding is linear, so that "near in the latent" and "near in metres" cannot drift apart, and it keeps
the encoder from the collapse to which a consistency loss alone leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 4
# Gain before the keypoints' softmax. Near-flat maps at the start all point at the middle and teach nothing:
# at a gain of 1 cubes are still 7 cm off after as many steps as bring them to 5 mm at 20.
SHARPNESS = 20.0
# Standard deviation under which a proprioception or action entry counts as constant (rad, m or [-1, 1]).
CONSTANT = 1e-3
# Metres: a position that hardly varies (a cube's height) is not blown up to unit variance.
MIN_SPREAD = 0.01


@dataclass(frozen=True, slots=True)
class LatentDynamicsConfig:
    """Sizes. cameras: name -> (height, width), each a multiple of 4 pixels."""

    cameras: tuple[tuple[str, int, int], ...]
    proprio_dim: int
    action_dim: int
    grounding_dim: int
    latent_dim: int = 128
    hidden: int = 256
    channels: int = 32
    keypoints: int = 32

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
    """Images and proprioception -> latent (B, D), zero mean and unit variance over its entries."""

    def __init__(self, config: LatentDynamicsConfig) -> None:
        super().__init__()
        self.latent_dim = config.latent_dim
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
        """Visual features; the part that may run under bfloat16 autocast, as `fuse` may not."""
        return torch.cat([camera(image) for camera, image in zip(self.vision, images, strict=True)], 1)

    def fuse(self, seen: Tensor, proprio: Tensor) -> Tensor:
        """Visual features and proprioception -> latent, in float32: it carries millimetres."""
        features = torch.cat([seen, (proprio - self.proprio_mean) * self.proprio_scale], 1)
        # The linear path carries positions and joints through unbent.
        return F.layer_norm(self.linear(features) + self.mlp(features), (self.latent_dim,))


class Dynamics(nn.Module):
    """(latent (B, D), action (B, A)) -> the latent one tick later."""

    def __init__(self, config: LatentDynamicsConfig) -> None:
        super().__init__()
        self.latent_dim = config.latent_dim
        self.latent_in = nn.Linear(config.latent_dim, config.hidden)
        self.action_in = nn.Linear(config.action_dim, config.hidden, bias=False)
        self.hidden = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, config.latent_dim)
        # Starts as persistence: a small residual is what a tick is.
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.out.weight, std=0.01)
        self.register_buffer("action_mean", torch.zeros(config.action_dim))
        self.register_buffer("action_scale", torch.ones(config.action_dim))

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        return self._tick(latent, self._action(action))

    def rollout(self, latent: Tensor, actions: Tensor) -> Tensor:
        """(B, D), (B, H, A) -> (B, H, D): the latents after each action."""
        embedded = self._action(actions)
        latents = []
        for step in range(actions.shape[1]):
            latent = self._tick(latent, embedded[:, step])
            latents.append(latent)
        return torch.stack(latents, 1)

    def _action(self, action: Tensor) -> Tensor:
        return self.action_in((action - self.action_mean) * self.action_scale)

    def _tick(self, latent: Tensor, embedded: Tensor) -> Tensor:
        x = F.silu(self.latent_in(latent) + embedded)
        x = F.silu(self.hidden(x))
        return F.layer_norm(latent + self.out(x), (self.latent_dim,))


class Grounding(nn.Module):
    """latent (..., D) -> metres (..., G), linear."""

    def __init__(self, config: LatentDynamicsConfig) -> None:
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


class LatentDynamics(nn.Module):
    """The three parts of one model."""

    def __init__(self, config: LatentDynamicsConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.dynamics = Dynamics(config)
        self.grounding = Grounding(config)

    def normalise(
        self,
        proprio: NDArray[np.float32],
        actions: NDArray[np.float32],
        positions: NDArray[np.float32],
    ) -> None:
        """Take the data's means and scales over rows of proprio (N, P), actions (N, A), positions (N, G).

        An entry that never varies gets the scale 0: nothing was learned about it, so nothing is to depend
        on it, least of all a planner that tries it out.
        """
        for values, mean, scale in (
            (proprio, self.encoder.proprio_mean, self.encoder.proprio_scale),
            (actions, self.dynamics.action_mean, self.dynamics.action_scale),
        ):
            deviation = values.std(0, dtype=np.float64)
            mean.copy_(torch.from_numpy(values.mean(0, dtype=np.float64)))
            varies = deviation > CONSTANT
            scale.copy_(torch.from_numpy(np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)))
        self.grounding.mean.copy_(torch.from_numpy(positions.mean(0, dtype=np.float64)))
        spread = np.maximum(positions.std(0, dtype=np.float64), MIN_SPREAD)
        self.grounding.std.copy_(torch.from_numpy(spread))

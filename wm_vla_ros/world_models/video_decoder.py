"""Images drawn from latents, as the video family learns to: the encoder's keypoints backwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wm_vla_ros.world_models.modules import PATCH, ModelConfig

# No decoded image is wider or higher than this, pixels.
_LARGEST = 64
# Pixels of a cell that the decoder paints, down and across.
_SHUFFLE = 2
# How much more a pixel of full contrast weighs in decoding.
_VIVID = 20.0


def drawn_size(height: int, width: int) -> tuple[int, int]:
    """Size of the decoded images of a camera: 32 to 64 pixels, a whole share of its own, multiples of 4.

    A camera that cannot be divided so is drawn in its own size.
    """
    for share in range(1, max(height, width)):
        whole = height % (PATCH * share) == 0 and width % (PATCH * share) == 0
        if whole and max(height, width) <= _LARGEST * share <= 2 * max(height, width):
            return height // share, width // share
    return height, width


class Decoder(nn.Module):
    """Latents (N, D) -> RGB images (N, H, W, 3), 0 to 1 where the data are. Drawn as changes of their mean.

    The encoder's keypoints backwards: a latent says where Gaussian blobs lie and how strong they are, and
    convolutions paint them (Jakab et al., NeurIPS 2018). With a linear map to a grid in their place, as many
    steps show no cube at all.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        height, width = drawn_size(*config.cameras[0][1:])
        rows, columns = height // _SHUFFLE, width // _SHUFFLE
        points, channels = config.keypoints, config.channels
        self.points = points
        outputs = 3 * points + channels
        self.linear = nn.Linear(config.latent_dim, outputs)
        self.mlp = nn.Sequential(
            nn.Linear(config.latent_dim, config.hidden), nn.SiLU(), nn.Linear(config.hidden, outputs)
        )
        nn.init.normal_(self.mlp[2].weight, std=0.01)
        self.place = nn.Parameter(1.6 * torch.rand(2, points) - 0.8)
        self.log_width = nn.Parameter(torch.full((points, 1), -1.9))
        self.canvas = nn.Parameter(torch.zeros(channels, rows, columns))
        self.paint = nn.Sequential(
            nn.Conv2d(points + channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 3 * _SHUFFLE**2, 1),
            nn.PixelShuffle(_SHUFFLE),
        )
        self.register_buffer("x", torch.linspace(-1, 1, columns), persistent=False)
        self.register_buffer("y", torch.linspace(-1, 1, rows), persistent=False)
        self.register_buffer("mean", torch.full((height, width, 3), 0.5))
        self.register_buffer("variance", torch.ones(()))

    def forward(self, latents: Tensor) -> Tensor:
        said = 0.3 * self.linear(latents) + self.mlp(latents)
        across, down, strength, light = said.split([self.points] * 3 + [said.shape[1] - 3 * self.points], 1)
        width = self.log_width.exp()
        x = torch.exp(-0.5 * ((self.x - (self.place[0] + across)[..., None]) / width).square())
        y = torch.exp(-0.5 * ((self.y - (self.place[1] + down)[..., None]) / width).square())
        blobs = (1 + strength)[..., None, None] * y[..., :, None] * x[..., None, :]
        painted = self.paint(torch.cat([blobs, light[..., None, None] + self.canvas], 1))
        return painted.permute(0, 2, 3, 1) * self.variance.sqrt() + self.mean

    def error(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Squared error over frames (N, H, W, 3) uint8, as a share of the data's variance."""
        return (self(latents) - frames.float() / 255.0).square().mean() / self.variance

    def loss(self, latents: Tensor, frames: Tensor) -> Tensor:
        """The same, but what stands out from its image's mean colour weighs more: most of it is table."""
        true = frames.float() / 255.0
        weight = 1.0 + _VIVID * (true - true.mean((1, 2), keepdim=True)).abs().amax(-1, keepdim=True)
        return (weight * (self(latents) - true).square()).mean() / self.variance

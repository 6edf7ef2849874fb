"""What families that reconstruct are held to: small pictures and proprioception, read back from a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models.family import Graph
from wm_vla_ros.world_models.frame_decoder import DECODER_FILE
from wm_vla_ros.world_models.modules import PATCH, ModelConfig
from wm_vla_ros.world_models.networks import Linear, mlp
from wm_vla_ros.world_models.small_images import small_images
from wm_vla_ros.world_models.two_hot import symlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wm_vla_ros.data.lerobot_reader import EpisodeArrays

PROPRIO, PICTURE = "proprio", "picture."
_CHANNELS = 16


class SmallFrames:
    """The frame in force at each row, every 4 x 4 pixels one; indexed by rows as an array is."""

    def __init__(self, data: EpisodeArrays, camera: str, height: int, width: int) -> None:
        self._small = small_images(data.images[camera], (height // PATCH, width // PATCH))
        self._row_frame = data.row_frame

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._small[self._row_frame[rows]]


def row_targets(data: EpisodeArrays, config: ModelConfig) -> dict[str, NDArray]:
    """What `Decoder.loss` compares with, of every row."""
    pictures = {PICTURE + name: SmallFrames(data, name, *size) for name, *size in config.cameras}
    return {PROPRIO: data.states, **pictures}  # type: ignore[dict-item]


class PictureDecoder(nn.Module):
    """Features (N, F) -> pictures (N, rows, columns, 3), 0 to 1 where it has learned to."""

    def __init__(self, features: int, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.coarse = (-(-rows // 4), -(-columns // 4))
        self.linear = Linear(features, 2 * _CHANNELS * self.coarse[0] * self.coarse[1])
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(2 * _CHANNELS, _CHANNELS, 3, padding=1), nn.Conv2d(_CHANNELS, 3, 3, padding=1)]
        )

    def forward(self, features: Tensor) -> Tensor:
        x = self.linear(features).unflatten(1, (2 * _CHANNELS, *self.coarse))
        for convolution in self.convolutions:
            x = convolution(F.interpolate(F.silu(x), scale_factor=2.0))
        return x[:, :, : self.rows, : self.columns].permute(0, 2, 3, 1) + 0.5


class Decoder(nn.Module):
    """Latents (N, D) -> what was seen: a picture of a quarter of the size per camera, and proprioception.

    The likelihood is Gaussian with the same standard deviation everywhere: of a pixel (0 to 1), and of a
    proprioception entry in symlog of the data's own units.
    """

    def __init__(self, config: ModelConfig, features: int, hidden: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.cameras = tuple(name for name, _, _ in config.cameras)
        self.pictures = nn.ModuleList(
            PictureDecoder(features, height // PATCH, width // PATCH) for _, height, width in config.cameras
        )
        self.proprio = mlp(features, hidden, config.proprio_dim, layers=1)

    def forward(self, latents: Tensor) -> list[Tensor]:
        """Pictures (N, rows, columns, 3) by camera, 0 to 1 but for errors."""
        return [camera(latents) for camera in self.pictures]

    def loss(self, latents: Tensor, proprio: Tensor, pictures: list[Tensor]) -> Tensor:
        """Nats per latent, less a constant. proprio: (N, P) normalised; pictures: (N, ..., 3) uint8."""
        nats = (self.proprio(latents) - symlog(proprio)).square().sum()
        for guess, picture in zip(self(latents), pictures, strict=True):
            nats = nats + (guess - picture.float() / 255.0).square().sum()
        return 0.5 * nats / (self.std**2 * max(1, len(latents)))

    def known(self, known: Mapping[str, Tensor]) -> list[Tensor]:
        """The pictures among what is known, in the order of the cameras."""
        return [known[PICTURE + name] for name in self.cameras]


class _FirstPicture(nn.Module):
    """Latents (N, D) -> pictures of the first camera, from the last `features` entries."""

    def __init__(self, decoder: Decoder, features: int) -> None:
        super().__init__()
        self.picture, self.features = decoder.pictures[0], features

    def forward(self, latents: Tensor) -> Tensor:
        return self.picture(latents[:, -self.features :])


def graphs(decoder: Decoder, latent_dim: int, features: int) -> dict[str, Graph]:
    """The decoder's first camera for export, if it has one. features: how many last entries it is shown."""
    if not decoder.cameras:
        return {}
    latents, batch = torch.zeros(2, latent_dim), torch.export.Dim("batch")
    drawing = _FirstPicture(decoder, features)
    return {DECODER_FILE: Graph(drawing, (latents,), ("latent",), ({0: batch},))}


@torch.no_grad()
def held_out_ratio(decoder: Decoder, latents: Tensor, known: Mapping[str, Tensor]) -> dict[str, float]:
    """Squared error of reconstructed pictures over that of the mean picture, by camera."""
    out = {}
    for name, guess, picture in zip(decoder.cameras, decoder(latents), decoder.known(known), strict=True):
        truth = picture.float() / 255.0
        spread = (truth - truth.mean(0)).square().sum()
        out[f"reconstruction.ratio_{name}"] = float((guess - truth).square().sum() / spread)
    return out

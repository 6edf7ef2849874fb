"""The jepa family: a latent learned by predicting it, after V-JEPA 2-AC (Assran et al., 2025).

An action-conditioned predictor is held against a slow target encoder's layer-normalised latents; no pixel is
ever asked for. What keeps the latent from collapsing are the variance and covariance terms of VICReg (Bardes,
Ponce, LeCun, ICLR 2022), with metres or without. The grounding that a planner reads is a linear probe: on
detached latents it loses nothing that a fresh probe would find, but lags behind a latent that still moves, so
its gradient is on by default.

There the encoder is pretrained on a million hours of video, and the predictor is a transformer over patches;
here both are learned from one data set, and the predictor is one MLP a tick, which a 50 Hz loop can afford.

With a backbone (`backbones`) nothing of the encoder is learned, as in DINO-WM (Zhou et al., 2024): a latent
is the backbone's features and the proprioception, and the predictor is learned in their space. A fixed target
cannot collapse, so VICReg has nothing to do. To be small enough for 50 Hz the features are cut to their
principal components; these are the only thing that is taken from the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models import modules
from wm_vla_ros.world_models.backbones import open_backbone
from wm_vla_ros.world_models.family import CONSTANT, LatentWorldModel, Terms, Window
from wm_vla_ros.world_models.modules import Encoder, ModelConfig

# Standard deviation of what a frozen encoder shows, and how many entries lift it to zero mean and unit
# variance: they can up to 5.3 standard deviations of its sum.
SMALL, LIFT = 0.125**0.5, 4


@dataclass(frozen=True, slots=True)
class JepaOptions:
    """variance, covariance: weights of VICReg's terms. grounded: whether metres shape the latent too.

    backbone: frozen vision, by the names of `backbones`; "": the encoder is learned.
    """

    variance: float = 20.0
    covariance: float = 1.0
    grounded: bool = True
    backbone: str = ""


def standardised(latent: Tensor) -> Tensor:
    """(..., D) to zero mean and unit variance over its entries, as V-JEPA's targets are."""
    return F.layer_norm(latent, latent.shape[-1:])


class Dynamics(modules.Dynamics):
    """A change is added, and the sum standardised as encodings are."""

    def settle(self, latent: Tensor, change: Tensor) -> Tensor:
        return standardised(latent + change)


def variance(latents: Tensor) -> Tensor:
    """Hinge on each dimension's standard deviation over the batch (B, D), at 1 (VICReg, equation 1)."""
    return torch.relu(1.0 - torch.sqrt(latents.var(0) + 1e-4)).mean()


def covariance(latents: Tensor) -> Tensor:
    """Squared covariances between dimensions over the batch (B, D), per dimension (VICReg, equation 3)."""
    centred = latents - latents.mean(0)
    matrix = centred.T @ centred / (len(latents) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / latents.shape[1]


class FrozenEncoder(Encoder):
    """Latents of a frozen backbone: principal components of its features, and the proprioception.

    Both are standardised to a standard deviation of `SMALL`, and four more entries bring mean and length to
    where `standardised` leaves them, so that a position that is linear in the features stays so in the
    latent.
    """

    frozen = True

    def __init__(self, config: ModelConfig, backbone: str) -> None:
        """Raises ModelRefused as `open_backbone`, ValueError for features too few for the latent."""
        nn.Module.__init__(self)
        self.norm = standardised
        self.vision = nn.ModuleList(
            open_backbone(backbone, (height, width)) for _, height, width in config.cameras
        )
        self.licence = str(self.vision[0].licence)
        features = sum(int(camera.features) for camera in self.vision)
        kept = config.latent_dim - config.proprio_dim - LIFT
        if not 0 < kept <= features:
            raise ValueError(
                f"backbone {backbone!r} has {features} features: a latent of {config.latent_dim} with "
                f"{config.proprio_dim} of proprioception needs 1 to that many, and would take {kept}"
            )
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("basis", torch.zeros(features, kept))
        self.register_buffer("proprio_mean", torch.zeros(config.proprio_dim))
        self.register_buffer("proprio_scale", torch.ones(config.proprio_dim))

    @torch.no_grad()
    def see(self, images: list[Tensor]) -> Tensor:
        return (super().see(images).float() - self.centre) @ self.basis

    def fuse(self, seen: Tensor, proprio: Tensor) -> Tensor:
        return lifted(torch.cat([seen, SMALL * (proprio - self.proprio_mean) * self.proprio_scale], 1))

    @torch.no_grad()
    def fit(self, batches: Iterable[list[Tensor]]) -> None:
        """Take the principal components of the features of these images, (B, H, W, 3) per camera each.

        Raises ValueError for fewer images than components, or features that hardly vary.
        """
        features = torch.cat([super(FrozenEncoder, self).see(images).float() for images in batches])
        kept = self.basis.shape[1]
        if len(features) <= kept:
            raise ValueError(f"{kept} principal components need more frames than that, got {len(features)}")
        mean, std = features.mean(0), features.std(0)
        if int((std > CONSTANT).sum()) < kept:
            raise ValueError(
                f"{kept} principal components need as many features that vary by over {CONSTANT}, "
                f"the backbone has {int((std > CONSTANT).sum())} of {len(std)}"
            )
        scale = torch.where(std > CONSTANT, 1.0 / std.clamp(min=CONSTANT), 0.0)
        _, spread, axes = torch.linalg.svd((features - mean) * scale, full_matrices=False)
        variance = spread[:kept].square().sum() / len(features)
        self.centre.copy_(mean)
        self.basis.copy_(scale[:, None] * axes[:kept].T * (SMALL * (kept / variance).sqrt()))


def lifted(entries: Tensor) -> Tensor:
    """(B, D - 4) to (B, D) of zero mean and unit variance over its entries, the first ones unchanged.

    Entries so large that no four more bring them there are scaled down (`standardised`).
    """
    dim = entries.shape[1] + LIFT
    share, room = entries.sum(1, keepdim=True) / LIFT, dim - entries.square().sum(1, keepdim=True)
    apart = torch.sqrt((room / LIFT - share.square()).clamp(min=0.0))
    return standardised(torch.cat([entries, *(sign * apart - share for sign in (1, -1, 1, -1))], 1))


class Jepa(LatentWorldModel):
    """The losses that all share, with the grounding as a probe, and VICReg's against collapse."""

    family = "jepa"
    norm = staticmethod(standardised)
    dynamics_type = Dynamics

    def __init__(self, config: ModelConfig, options: JepaOptions | None = None) -> None:
        super().__init__(config)
        self.own = options or JepaOptions()
        if self.own.backbone:
            self.encoder = FrozenEncoder(config, self.own.backbone)

    def options(self) -> dict[str, Any]:
        return asdict(self.own)

    def weights(self) -> dict[str, Tensor]:
        """Without a backbone's, which are in the encoder's file already."""
        frozen = self.encoder.frozen
        return {
            name: value
            for name, value in super().weights().items()
            if not (frozen and name.startswith("encoder.vision."))
        }

    def licences(self) -> tuple[str, ...]:
        if not isinstance(self.encoder, FrozenEncoder):
            return ()
        return (f"backbone {Path(self.own.backbone).name}: {self.encoder.licence}",)

    def readable(self, latents: Tensor) -> Tensor:
        return latents if self.own.grounded else latents.detach()

    def encoded_terms(self, latent: Tensor) -> Terms:
        """VICReg's terms; nothing of latents that no gradient reaches."""
        if not latent.requires_grad:
            return {}
        return {
            "variance": self.own.variance * variance(latent),
            "covariance": self.own.covariance * covariance(latent),
        }

    def window_terms(self, latent: Tensor, predictions: Tensor, window: Window) -> Terms:
        return self.encoded_terms(latent)

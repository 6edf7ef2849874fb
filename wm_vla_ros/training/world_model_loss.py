"""The losses that all families of world models share, over windows of recorded episodes.

Three terms: the predicted latent against the target encoder's latent of the frame that came (consistency),
metres read from the encoded latent, metres read from the predicted latents. All predictions are open loop
from the window's first frame. A family adds its own terms, and says whether grounding shapes its latents.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.data.sequences import TIP, columns
from wm_vla_ros.world_models.family import ImaginedWindow, LatentWorldModel, Window


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Metres at which an error counts as one unit, and the weights of the terms.

    share: the same for what is no metres, as a share of its standard deviation in the data.

    moving: a cube that moves more than `moved` metres in the window weighs this many times more; contact is
    rare in the data and is what a planner that pushes depends on. consistency: per squared unit of a latent
    whose entries have unit variance; at a tenth of this weight the encoder's own noise is what the latent
    error is made of. object_motion: of objects that move, asked of dynamics with a part for touching.
    """

    tip_scale: float = 0.002
    object_scale: float = 0.008
    tip_motion_scale: float = 0.002
    object_motion_scale: float = 0.003
    share: float = 0.05
    moved: float = 0.003
    moving: float = 5.0
    consistency: float = 20.0
    encoded: float = 1.0
    predicted: float = 1.0
    tip_motion: float = 0.5
    object_motion: float = 0.15


class Losses:
    """Scores one model's predictions; knows which columns of the positions are what.

    errors: (B,) of the windows of the last call to `total` that weighed them, what replay goes by.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        config: LossConfig,
        device: torch.device,
        deviation: NDArray[np.float64] | None = None,
    ) -> None:
        """deviation: (G,) standard deviation of each column that is no metres, NaN of the others."""
        self.config = config
        self.names = names
        self._tip = columns(names, TIP).get(TIP, [])
        self._cubes = list(columns(names, "_cube").values())
        scale = np.full(len(names), config.object_scale, np.float32)
        scale[self._tip] = config.tip_scale
        # What the motion term looks at: the fingertip, or what stands in for it.
        motion = np.full(len(self._tip), config.tip_motion_scale, np.float32)
        if deviation is not None and len(own := np.flatnonzero(np.isfinite(deviation))):
            # What never varied is read as its mean, and costs nothing.
            scale[own] = np.where(deviation[own] > 0, config.share * deviation[own], 1.0)
            if not self._tip:
                self._tip, motion = own.tolist(), scale[own]
        self._scale = torch.from_numpy(scale).to(device)
        self._motion_scale = torch.from_numpy(motion).to(device)
        self.errors = torch.zeros(0)

    def encoded(self, grounded: Tensor, positions: Tensor) -> Tensor:
        """Metres read from encoded latents, (B, G) both."""
        return _huber((grounded - positions) / self._scale).mean()

    def predicted(self, start: Tensor, grounded: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """(position, tip motion, object motion) terms, the last of objects that move, zero without objects.

        start (B, G), grounded (B, T, G): first and predicted, metres.
        """
        config, truth = self.config, window.positions
        weight = torch.ones_like(truth[:, 0])
        each = 1.0 if window.weight is None else window.weight[:, None, None]
        off = (grounded - start[:, None]) - (truth[:, 1:] - truth[:, :1])
        pushed = torch.zeros_like(truth[:, 0, 0])
        for cube in self._cubes:
            motion = (truth[:, 1:, cube] - truth[:, :1, cube]).norm(dim=-1).amax(1)
            moves = (motion > config.moved).float()
            weight[:, cube] += (config.moving - 1.0) * moves[:, None]
            pushed = pushed + moves * (_huber(off[..., cube] / config.object_motion_scale) * each).mean(
                (1, 2)
            )
        error = _huber((grounded - truth[:, 1:]) / self._scale)
        position = (error * weight[:, None] * each).mean()
        tip = (_huber(off[..., self._tip] / self._motion_scale) * each).mean()
        return position, tip, pushed.mean()

    def imagined(self, model: LatentWorldModel, window: ImaginedWindow) -> Tensor:
        """The shared terms of imagined windows: a slow copy's rollouts are the truth."""
        config = self.config
        predictions = model.dynamics.rollout(window.start, window.actions)
        error = (model.grounding(model.readable(predictions)) - window.positions) / self._scale
        consistency = F.mse_loss(predictions, window.latents)
        return config.consistency * consistency + config.predicted * _huber(error).mean()

    def total(
        self,
        model: LatentWorldModel,
        latent: Tensor,
        window: Window,
        targets: Tensor,
        target_ticks: Tensor,
    ) -> tuple[Tensor, dict[str, float]]:
        """Sum of all terms, and each by name.

        latent: (B, D) of the first frames, with gradient in joint training. targets: (B, K, D) without,
        K frames later in the window; target_ticks: (B, K) how many actions after the first they come.
        """
        config = self.config
        predictions = model.dynamics.rollout(latent, window.actions)
        pick = (target_ticks - 1)[..., None].expand(-1, -1, predictions.shape[-1])
        consistency = F.mse_loss(predictions.gather(1, pick), targets)
        start = model.grounding(model.readable(latent))
        encoded = self.encoded(start, window.positions[:, 0])
        grounded = model.grounding(model.readable(predictions))
        predicted, tip_motion, object_motion = self.predicted(start, grounded, window)
        if window.weight is not None:
            missed = (predictions.gather(1, pick) - targets).square().mean((1, 2))
            consistency = (window.weight * missed).mean()
            off = _huber((grounded.detach() - window.positions[:, 1:]) / self._scale).mean((1, 2))
            self.errors = config.consistency * missed.detach() + config.predicted * off
        loss = (
            config.consistency * consistency
            + config.encoded * encoded
            + config.predicted * predicted
            + config.tip_motion * tip_motion
        )
        terms = {
            "loss": loss,
            "consistency": consistency,
            "encoded": encoded,
            "predicted": predicted,
            "tip_motion": tip_motion,
        }
        if model.dynamics.touches:
            loss = loss + config.object_motion * object_motion
            terms |= {"loss": loss, "object_motion": object_motion}
        window = replace(window, later=targets, later_ticks=target_ticks)
        for name, term in model.window_terms(latent, predictions, window).items():
            loss = loss + term
            terms |= {"loss": loss, name: term}
        return loss, {name: float(value.detach()) for name, value in terms.items()}


class TargetEncoder:
    """A slow copy of the encoder: its latents are what predictions are held against (BYOL; SPR).

    Of any other part of a model likewise.
    """

    def __init__(self, encoder: nn.Module, rate: float) -> None:
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.rate = rate

    @torch.no_grad()
    def follow(self, encoder: nn.Module) -> None:
        """Move `rate` of the way towards `encoder`."""
        for own, new in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            own.lerp_(new, self.rate)


def augment(images: NDArray[np.uint8], rng: np.random.Generator, strength: float = 0.15) -> NDArray[np.uint8]:
    """Brightness and contrast of every image (B, H, W, 3) changed by up to `strength` of the full range."""
    count = len(images)
    contrast = rng.uniform(1.0 - strength, 1.0 + strength, count)
    shift = rng.uniform(-strength, strength, count) * 128.0
    # One table of 256 values per image: the same as arithmetic on every pixel, an order of magnitude faster.
    levels = np.arange(256.0)
    tables = np.clip((levels - 128.0) * contrast[:, None] + 128.0 + shift[:, None], 0.0, 255.0).astype(
        np.uint8
    )
    out = np.empty_like(images)
    for image, table, target in zip(images, tables, out, strict=True):
        np.take(table, image, out=target)
    return out


def _huber(error: Tensor) -> Tensor:
    return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")

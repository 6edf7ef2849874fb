"""Imagined windows beside recorded ones (Dyna: Sutton, "Integrated Architectures for Learning", 1990).

A model that learned from its own rollouts as they are would learn nothing: it agrees with itself, and the
loss is zero. So a slow copy of dynamics and grounding imagines (a mean teacher: Tarvainen and Valpola,
NeurIPS 2017), from recorded latents, under actions that nobody recorded there; the model is held to what it
says.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros.training.world_model_loss import TargetEncoder
from wm_vla_ros.world_models.family import ImaginedWindow, LatentWorldModel

# Of the actions' noise: deviation, as a share of the recorded actions', and for how many ticks it is held.
NOISE, HELD = 0.5, 5


class Imagining:
    """The slow copy, and the actions that it is asked about."""

    def __init__(self, model: LatentWorldModel, actions: NDArray[np.float32], rate: float) -> None:
        """actions: (N, A) as recorded. rate: of the slow copy, per step."""
        self._dynamics = TargetEncoder(model.dynamics, rate)
        self._grounding = TargetEncoder(model.grounding, rate)
        device = model.grounding.mean.device
        self._low, self._high, self._spread = (
            torch.from_numpy(np.ascontiguousarray(each, np.float32)).to(device)
            for each in (actions.min(0), actions.max(0), NOISE * actions.std(0, dtype=np.float64))
        )

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """The slow copy, for a checkpoint."""
        return {"imagining.dynamics": self._dynamics.encoder, "imagining.grounding": self._grounding.encoder}

    def follow(self, model: LatentWorldModel) -> None:
        """Move towards `model`, once a step."""
        self._dynamics.follow(model.dynamics)
        self._grounding.follow(model.grounding)

    @torch.no_grad()
    def windows(self, start: Tensor, actions: Tensor) -> ImaginedWindow:
        """From latents (B, D), under recorded actions (B, T, A) disturbed, within what was recorded."""
        count, ticks = actions.shape[:2]
        noise = torch.randn(count, -(-ticks // HELD), actions.shape[2], device=actions.device)
        held = noise.repeat_interleave(HELD, 1)[:, :ticks]
        disturbed = torch.clamp(actions + held * self._spread, self._low, self._high)
        latents = self._dynamics.encoder.rollout(start, disturbed)  # type: ignore[operator]
        return ImaginedWindow(start, disturbed, latents, self._grounding.encoder(latents))

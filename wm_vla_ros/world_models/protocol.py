"""The interface by which belief, goals and planning see a world model, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.actor_critic import ActorCritic
from wm_vla_ros.world_models.heads import Heads
from wm_vla_ros.world_models.manifest import Manifest


class WorldModel(Protocol):
    """Latent dynamics of one robot. D is `latent_dim`, A is `action_dim`, G is len(`grounding_names`).

    Actions are in the stack's own convention (`wm_vla_ros.types`): [-1, 1] per tick of `dt` seconds;
    what normalisation a family needs is inside its files. Means only: there is no sampling here.
    """

    manifest: Manifest
    latent_dim: int
    action_dim: int
    dt: float
    encoder_id: str
    grounding_names: tuple[str, ...]
    heads: Heads | None
    actor_critic: ActorCritic | None

    def encode(self, images: Mapping[str, NDArray[np.uint8]], proprio: FloatArray) -> FloatArray:
        """The latent (D,) of one observation: camera name -> (H, W, 3) uint8 RGB, proprio (P,).

        Raises ValueError on a missing camera, another image size or dtype, or a proprio of another length
        or with a value that is not finite.
        """
        ...

    def predict(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """The latents (N, D) one tick of `dt` after applying actions (N, A) in latents (N, D)."""
        ...

    def rollout(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """The latents (N, H, D) after each of the actions (N, H, A), from latents (N, D)."""
        ...

    def ground(self, latents: FloatArray) -> FloatArray:
        """Positions (..., G) in metres in the base frame, read from latents (..., D) by a linear map."""
        ...

    def spread(self, latents: FloatArray) -> FloatArray | None:
        """Doubt about imagined latents (N, D): (N, G) metres, one standard deviation of what `ground` says.

        None from a family that imagines no distribution.
        """
        ...

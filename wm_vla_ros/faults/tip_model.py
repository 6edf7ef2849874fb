"""A world model that is exactly right, for runs in which something else is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import FloatArray


class TipModel:
    """The world model of an arm that does what it is told, and of a cube that lies still far away.

    The latent is both positions in metres.

    misread: (3,) metres that the encoder is off by at present.
    """

    latent_dim, action_dim, encoder_id = 6, 7, "tip"
    grounding_names = ("tip.x", "tip.y", "tip.z", "cube.x", "cube.y", "cube.z")

    def __init__(self, spec: RobotSpec) -> None:
        self.dt = spec.dt
        self.misread: NDArray[np.float64] = np.zeros(3)
        self._effect = np.zeros((7, 6), np.float32)
        self._effect[:3, :3] = np.eye(3) * spec.translation_scale
        self._tip = [proprio_names(spec).index(f"tip.position.{axis}") for axis in "xyz"]

    def encode(self, images: Mapping[str, NDArray[np.uint8]], proprio: FloatArray) -> FloatArray:
        return self.latent(proprio[self._tip] + self.misread)

    def latent(self, tip: NDArray) -> FloatArray:
        """(6,) latent of a tip (3,) in metres."""
        return np.concatenate([tip, [0.0, 0.5, 0.0]]).astype(np.float32)

    def predict(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        return latents + actions @ self._effect

    def rollout(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        return latents[:, None] + np.cumsum(actions @ self._effect, axis=1)

    def ground(self, latents: FloatArray) -> FloatArray:
        return latents

    def spread(self, latents: FloatArray) -> None:
        """It imagines no distribution."""

"""Images of latents, of a model whose family decodes, on ONNX Runtime: numpy in, numpy out, no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import Manifest
from wm_vla_ros.world_models.onnx_runtime import ANY, CPU, open_session
from wm_vla_ros.world_models.small_images import block_means

DECODER_FILE = "decoder.onnx"


class FrameDecoder:
    """Draws latents as a model's first camera would see them, smaller.

    camera: which one. size: (h, w) of what is drawn, pixels.
    """

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
        """contents: verified bytes by file name, with `DECODER_FILE`. Raises ModelRefused for a bad one."""
        self.camera = next(iter(manifest.cameras))
        dim = manifest.latent_dim
        self._session = open_session(contents, DECODER_FILE, CPU, [[None, dim]], [None, ANY, ANY, 3])
        _, height, width, _ = self._session.get_outputs()[0].shape
        self.size = (int(height), int(width))

    @classmethod
    def of(cls, manifest: Manifest, contents: Mapping[str, bytes]) -> FrameDecoder | None:
        """The model's, or None where its family does not decode, or did not yet when it was exported."""
        return cls(manifest, contents) if DECODER_FILE in contents else None

    def draw(self, latents: FloatArray) -> NDArray[np.uint8]:
        """Images (N, h, w, 3) of latents (N, D)."""
        images = self._session.run(None, {"latent": np.ascontiguousarray(latents, np.float32)})[0]
        return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)

    def small(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Camera images (..., H, W, 3) as a perfect decoder would draw them: (..., h, w, 3), 0 to 255."""
        return block_means(images, self.size)

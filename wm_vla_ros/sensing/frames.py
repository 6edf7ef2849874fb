"""Images of several cameras that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Instants that may be incomplete at once: cameras of one rig are never further apart than that.
_OPEN = 4


class FrameMatcher:
    """Collects one image per camera of one instant. Instants that were overtaken are dropped.

    Not thread-safe.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._open: dict[int, dict[str, NDArray[np.uint8]]] = {}

    def add(self, camera: str, instant: int, image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]] | None:
        """Take the image (H, W, 3) of `camera` at `instant` (ns, equal for images that belong together).

        Returns all images of the instant once the last one of them is here. Raises ValueError for a camera
        that nobody asked for.
        """
        if camera not in self._cameras:
            raise ValueError(f"unknown camera {camera!r}; valid: {', '.join(self._cameras)}")
        frames = self._open.setdefault(instant, {})
        frames[camera] = image
        if len(frames) < len(self._cameras):
            for overtaken in sorted(self._open)[:-_OPEN]:
                del self._open[overtaken]
            return None
        self._open = {key: value for key, value in self._open.items() if key > instant}
        return frames

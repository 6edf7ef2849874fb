"""Camera images made small, every pixel the mean of a block: what families learn to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Images that are made small at a time: a data set's are larger than memory may be.
AT_ONCE = 2000


def block_means(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """(..., H, W, 3) -> (..., h, w, 3) means over equal blocks, 0 to 255.

    Raises ValueError where `size`, (h, w), does not divide the images'.
    """
    total, count = _sums(images, size)
    return (total / np.float32(count)).astype(np.float32)


def small_images(images: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The same of all F images of a data set, rounded: (F, h, w, 3) uint8, a part of them at a time."""
    out = np.empty((len(images), *size, 3), np.uint8)
    for start in range(0, len(images), AT_ONCE):
        part = images[np.arange(start, min(start + AT_ONCE, len(images)))]
        total, count = _sums(part, size)
        out[start : start + len(part)] = (total + count // 2) // count
    return out


def _sums(images: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.uint32], int]:
    """Sums over blocks, and how many pixels a block has."""
    height, width = images.shape[-3:-1]
    if height % size[0] or width % size[1]:
        wanted = f"whole multiples of {size[0]}x{size[1]}"
        raise ValueError(f"images of {height}x{width} pixels: expected {wanted}")
    down, across = height // size[0], width // size[1]
    total = np.zeros((*images.shape[:-3], *size, 3), np.uint32)
    for row in range(down):
        for column in range(across):
            total += images[..., row::down, column::across, :]
    return total, down * across

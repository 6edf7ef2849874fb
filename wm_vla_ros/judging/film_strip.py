"""Rows of images one under the other: what was seen above what a model makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Strip:
    """One row. images: (h, w, 3) uint8 each, None where there is none; rows may be of different lengths.

    titles: above the images, or none at all.
    """

    label: str
    images: Sequence[NDArray[np.uint8] | None]
    titles: Sequence[str] = ()


def draw_strips(canvas: Any, strips: Sequence[Strip]) -> None:
    """Draw onto a matplotlib figure or a part of one."""
    columns = max(len(strip.images) for strip in strips)
    axes = canvas.subplots(len(strips), columns, squeeze=False)
    for strip, row in zip(strips, axes, strict=True):
        row[0].set_ylabel(strip.label, fontsize=7)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, image in zip(row, strip.images, strict=False):
            if image is not None:
                axis.imshow(image)
        for axis, title in zip(row, strip.titles, strict=False):
            axis.set_title(title, fontsize=8)

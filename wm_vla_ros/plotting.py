"""Plots as PNG files: an empty figure to draw on that is written when done, and bars of measured figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wm_vla_ros.report import Figure


@contextmanager
def canvas(path: Path | BinaryIO, width: float, height: float, dpi: int = 80) -> Iterator[Any]:
    """A matplotlib figure of so many inches; written to `path` as a PNG at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    drawn = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    yield drawn
    drawn.savefig(path, dpi=dpi, format="png")


def grouped_bars(axes: Any, groups: Sequence[str], bars: Mapping[str, Sequence[Figure]]) -> None:
    """A bar with its interval for each group and label. bars: label -> a figure for each of the groups."""
    places, width = np.arange(len(groups)), 0.8 / len(bars)
    for number, (label, figures) in enumerate(bars.items()):
        at = places + number * width
        axes.bar(at, [float(figure.value) for figure in figures], width, label=label)
        for place, figure in zip(at, figures, strict=True):
            if figure.low is not None:
                axes.vlines(place, figure.low, figure.high, color="black")
    axes.set(xticks=places + 0.4 - width / 2, xticklabels=groups)

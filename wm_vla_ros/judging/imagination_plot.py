"""The picture of an imagination: errors over time, and frames where a family decodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wm_vla_ros.data.sequences import TIP
from wm_vla_ros.judging.film_strip import draw_strips
from wm_vla_ros.judging.imagination import Imagination
from wm_vla_ros.judging.imagined_frames import ImaginedFrames, strips
from wm_vla_ros.report import Figure

# Inches: of one model's curves, of several models', and of a frame.
_DETAIL, _BESIDE, _FRAME = (10.0, 7.0), (11.0, 4.5), 1.2


def plot(
    imaginations: Mapping[str, Imagination],
    figures: Sequence[Figure],
    path: Path | BinaryIO,
    drawn: Mapping[str, ImaginedFrames] | None = None,
) -> None:
    """Write a PNG: one model in detail or several side by side, and below it the frames of those that draw.

    figures: of several models, named by them, with the linear forecasts' among them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    film = strips(drawn) if drawn else []
    width, height = _DETAIL if len(imaginations) == 1 else _BESIDE
    canvas = Canvas(figsize=(width, height + _FRAME * len(film)), layout="constrained")
    FigureCanvasAgg(canvas)
    curves: Any = canvas
    if film:
        curves, below = canvas.subfigures(2, 1, height_ratios=(height, _FRAME * len(film)))
        draw_strips(below, film)
    if len(imaginations) == 1:
        _in_detail(curves, next(iter(imaginations.values())))
    else:
        _side_by_side(curves, imaginations, figures)
    canvas.savefig(path, dpi=80, format="png")


def _in_detail(canvas: Any, imagination: Imagination) -> None:
    """Error over time in the latent and in metres, and imagined against true motion."""
    ((ratios, metres), (tip, contact)) = canvas.subplots(2, 2)
    ticks = imagination.ticks
    sums = [[float(np.sum(part)) for part in imagination.error(t)] for t in ticks]
    ratios.plot(ticks, [ours / still if still else math.nan for ours, still in sums], "o-", markersize=3)
    ratios.set(xlabel="ticks ahead", ylabel="squared latent error / persistence", ylim=(0, None))
    every = (0, *ticks)
    found = [thing for thing in (TIP,) if imagination.grounds(thing)] + list(imagination.cubes())
    for thing in found:
        metres.plot(every, [1e3 * float(imagination.miss(thing, t).mean()) for t in every], label=thing)
    metres.set(xlabel="ticks ahead", ylabel="mean error, mm", ylim=(0, None))
    if found:
        metres.legend()
    slope, push = imagination.slope_ticks, imagination.contact_ticks
    pairs = []
    if imagination.grounds(TIP):
        pairs.append((tip, imagination.motion(TIP, slope), f"fingertip over {slope} ticks"))
    if imagination.cubes():
        pairs.append((contact, imagination.pushed(push)[:2], f"pushed cubes over {push} ticks"))
    for axes, (true, imagined), title in pairs:
        for axis, name in enumerate("xy"):
            axes.plot(1e3 * true[:, axis], 1e3 * imagined[:, axis], ".", markersize=2, label=name)
        reach = 1e3 * float(np.abs(true).max(initial=1e-3))
        axes.plot([-reach, reach], [-reach, reach], color="grey", linewidth=0.8)
        axes.set(xlabel="true motion, mm", ylabel="imagined, mm", title=title)
        axes.legend()


def _side_by_side(canvas: Any, imaginations: Mapping[str, Imagination], figures: Sequence[Figure]) -> None:
    """Error over time in the latent and in metres. figures: with the linear forecasts' among them."""
    ratios, metres = canvas.subplots(1, 2)
    values = {figure.name: figure.value for figure in figures}
    for number, (name, imagination) in enumerate(imaginations.items()):
        sums = [[float(np.sum(side)) for side in imagination.error(t)] for t in imagination.ticks]
        shares = [ours / still if still else math.nan for ours, still in sums]
        ratios.plot(imagination.ticks, shares, "o-", markersize=3, color=f"C{number}", label=name)
        linear = [values[f"{name}.imagination.ratio_linear_{t}"] for t in imagination.horizons]
        ratios.plot(imagination.horizons, linear, "--", color=f"C{number}", linewidth=0.9)
        if not imagination.cubes():
            continue
        misses = [
            np.mean([imagination.miss(cube, t).mean() for cube in imagination.cubes()])
            for t in (0, *imagination.ticks)
        ]
        metres.plot((0, *imagination.ticks), 1e3 * np.array(misses), color=f"C{number}", label=name)
    ratios.axhline(1.0, color="grey", linewidth=0.8)
    ratios.set(
        xlabel="ticks ahead",
        ylabel="squared latent error / persistence",
        yscale="log",
        title="dashed: a linear forecast in the same latent",
    )
    metres.set(xlabel="ticks ahead", ylabel="mean error of the cubes, mm", ylim=(0, None))
    ratios.legend()
    metres.legend()

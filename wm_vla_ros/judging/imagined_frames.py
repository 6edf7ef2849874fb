"""Frames that a world model imagines beside those that came, where its family decodes.

What is wrong with an imagined frame is the decoder's fault or the dynamics'. So its error is told over that
of the first frame, repeated, and over that of the frame that the decoder draws of the latent that came.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import quotient
from wm_vla_ros.data.sequences import frames
from wm_vla_ros.judging.film_strip import Strip
from wm_vla_ros.judging.imagination import Imagination
from wm_vla_ros.judging.judged import spread
from wm_vla_ros.report import Figure
from wm_vla_ros.world_models.frame_decoder import FrameDecoder

# Windows whose frames are decoded at each horizon, and windows that are shown.
_JUDGED, _SHOWN = 300, 3


class ImaginedFrames:
    """One model's imagination, drawn. ticks: at which, and the first frame's, 0."""

    def __init__(self, imagination: Imagination, decoder: FrameDecoder) -> None:
        self.imagination, self.decoder = imagination, decoder
        # The nearest horizon is hardly another picture.
        self.ticks = (0, *imagination.horizons[1:])

    def figures(self) -> tuple[Figure, ...]:
        """Ratios of squared pixel errors at each horizon, with intervals over episodes.

        imagination.pixels_over_still_N: of frames drawn of imagined latents, over those of the first frame;
        below 1 is better than nothing. imagination.pixels_over_decoder_N: over frames drawn of the latents
        that came; 1 where the dynamics adds no error. Null where no episode is long enough. Raises ValueError
        when the decoder's size does not divide the camera's.
        """
        out = []
        for ticks in self.ticks[1:]:
            at = spread(self.imagination.windows(ticks), _JUDGED)
            imagined = decoded = still = np.zeros(0)
            if len(at):
                true = self.decoder.small(self.seen(at, ticks))
                imagined, decoded = (_squares(images, true) for images in self.drawn(at, ticks))
                still = self.change(at, ticks)
            episode = self.imagination.episode[at]
            out.append(quotient(f"imagination.pixels_over_still_{ticks}", imagined, still, episode))
            out.append(quotient(f"imagination.pixels_over_decoder_{ticks}", imagined, decoded, episode))
        return tuple(out)

    def seen(self, at: NDArray[np.int64], ticks: int) -> NDArray[np.uint8]:
        """What the camera saw `ticks` after the first rows of windows `at` (n,): (n, H, W, 3)."""
        rows = self.imagination.rows[at] + ticks
        return frames(self.imagination.data, self.decoder.camera, rows)

    def drawn(self, at: NDArray[np.int64], ticks: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(imagined, of the latents that came), images (n, h, w, 3) each, of windows `at` (n,)."""
        imagined, came = self.imagination.latents(ticks, at)
        return self.decoder.draw(imagined), self.decoder.draw(came)

    def change(self, at: NDArray[np.int64], ticks: int) -> NDArray[np.float64]:
        """(n,) squared pixel error of the first frame for the one that came."""
        return _squares(self.decoder.small(self.seen(at, 0)), self.decoder.small(self.seen(at, ticks)))


def strips(models: Mapping[str, ImaginedFrames]) -> list[Strip]:
    """What was seen in some windows, and below it what each model draws of it, and of what it imagines.

    All models have imagined the same windows.
    """
    out = []
    first = next(iter(models.values()))
    for window in telling_windows(first):
        data, at = first.imagination.data, np.array([window])
        ticks = [each for each in first.ticks if window in first.imagination.windows(each)]
        task = data.tasks[data.episode_tasks[first.imagination.episode[window]]]
        titles = [f"{textwrap.shorten(task, 30)}\nnow", *(f"{each * data.dt:.2f} s" for each in ticks[1:])]
        shown: set[str] = set()
        for name, model in models.items():
            camera = model.decoder.camera
            if camera not in shown:
                shown.add(camera)
                out.append(Strip(f"{camera} saw", [model.seen(at, each)[0] for each in ticks], titles))
            drawn = [model.drawn(at, each) for each in ticks]
            out.append(Strip(f"{name}:\nof what came", [came[0] for _, came in drawn]))
            out.append(Strip(f"{name}:\nimagined", [imagined[0] for imagined, _ in drawn]))
    return out


def telling_windows(model: ImaginedFrames, most: int = _SHOWN) -> list[int]:
    """Of each third of the episodes (as recorded here: reach, push, play) the window in which most happens.

    Among those that are as long as any in it, up to the last horizon: the one whose pixels change most.
    """
    imagination, out = model.imagination, []
    for episodes in np.array_split(np.unique(imagination.episode), most):
        mine = np.flatnonzero(np.isin(imagination.episode, episodes))
        for ticks in reversed(model.ticks):
            at = spread(np.intersect1d(mine, imagination.windows(ticks)), _JUDGED)
            if len(at):
                out.append(int(at[np.argmax(model.change(at, ticks))]))
                break
    return out


def _squares(guess: NDArray, true: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) sums of squared differences of images (n, h, w, 3)."""
    return np.square(guess - true, dtype=np.float64).sum((1, 2, 3))

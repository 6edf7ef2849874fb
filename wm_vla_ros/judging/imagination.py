"""How well a world model imagines: latent error against persistence, probes, metres, contact.

A latent error alone proves nothing: an encoder that collapses gets a better one. So it is reported beside a
linear probe (is the world still in the latent?) and errors in metres (is it still right after h ticks?).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import draws, mapped, mean, quotient
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import (
    TIP,
    columns,
    frame_stride,
    grounding_names,
    positions,
    window_starts,
)
from wm_vla_ros.judging.encodings import check_layout, encode_rows, probe_figures, things
from wm_vla_ros.judging.linear_forecast import fit_forecasts
from wm_vla_ros.report import Figure
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

HORIZONS = (1, 5, 10, 20, 50)
# Where the fingertip's slope and a pushed cube's motion are read. No window is shorter than the latter.
_SLOPE, _CONTACT = 10, 20
# Ticks at which the horizon is searched.
_SEARCHED = (1, 2, 3, 5, 7, *range(10, 101, 5))
# A cube that moves further than this within 0.4 s is being pushed, metres.
PUSHED = 0.01
# Better by less than a thousandth is as good: round-off must not decide.
_AS_GOOD = 0.999
# Windows imagined at a time: only some ticks of them are kept.
_BATCH = 256


class Imagination:
    """One model's imagined latents along windows of held-out episodes, beside what came.

    W windows, each from a rendered row; positions (metres, base frame) are ordered as `names`. Every window
    is 20 ticks long at least; beyond that the longer ones remain (`windows`).
    rows: (W,) first rows. start: (W, D) their latents. ticks: where imagination is compared. predicted:
    (W, len(ticks), D) latents after so many actions, of no meaning where a window is shorter.
    """

    def __init__(
        self, model: WorldModel, data: EpisodeArrays, episodes: NDArray[np.int64], most: int | None = None
    ) -> None:
        """most: windows to look at, evenly spread; all of them when None.

        Raises ValueError when the data set is of another layout than the model, or no episode is long enough.
        """
        check_layout(model, data)
        self.model, self.data = model, data
        self.names = grounding_names(data)
        self.positions = positions(data)
        stride = frame_stride(data)

        # A horizon at which there is no image moves up to the next that has one, and says so in its name.
        def up(ticks: int) -> int:
            return -(-ticks // stride) * stride

        self.horizons = tuple(dict.fromkeys(up(ticks) for ticks in HORIZONS))
        self.slope_ticks, self.contact_ticks = up(_SLOPE), up(_CONTACT)
        rows = window_starts(data, episodes, self.contact_ticks)
        if most is not None and len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
        self.rows = rows
        self.episode = data.row_episode()[rows]
        last = data.starts[self.episode + 1] - 1
        self._room = last - rows
        wanted = sorted({up(ticks) for ticks in (*_SEARCHED, *HORIZONS)})
        self.ticks = tuple(ticks for ticks in wanted if ticks <= self._room.max())
        later = [rows[self.windows(ticks)] + ticks for ticks in self.ticks]
        self._encoded_rows = np.unique(np.concatenate([rows, *later]))
        self._latents = encode_rows(model, data, self._encoded_rows)
        self.start = self._encoded(rows)
        # Past a window's end its last action is repeated; what comes of that is never looked at.
        within = np.minimum(rows[:, None] + np.arange(max(self.ticks)), last[:, None])
        kept = np.array(self.ticks) - 1
        self.predicted = np.concatenate(
            [
                model.rollout(self.start[at : at + _BATCH], data.actions[within[at : at + _BATCH]])[:, kept]
                for at in range(0, len(rows), _BATCH)
            ]
        )

    def windows(self, ticks: int) -> NDArray[np.int64]:
        """The windows (n,) that are `ticks` long or longer."""
        return np.flatnonzero(self._room >= ticks)

    def latents(self, ticks: int, at: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """(imagined, encoded) latents (n, D) each, `ticks` after the first rows of windows `at` (n,)."""
        if ticks == 0:
            return self.start[at], self.start[at]
        return self._after(ticks)[at], self._encoded(self.rows[at] + ticks)

    def error(self, ticks: int) -> tuple[FloatArray, FloatArray]:
        """Squared latent error (n,) of imagination, and of persistence, over `windows(ticks)`."""
        if ticks not in self.ticks:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        at = self.windows(ticks)
        imagined, later = self.latents(ticks, at)
        return np.sum((imagined - later) ** 2, axis=1), np.sum((self.start[at] - later) ** 2, axis=1)

    def motion(self, thing: str, ticks: int) -> tuple[FloatArray, FloatArray]:
        """(true, imagined) displacement (n, 3) in metres of a thing, over `windows(ticks)`."""
        at, along = self.windows(ticks), columns(self.names, thing)[thing]
        true = self.positions[self.rows[at] + ticks] - self.positions[self.rows[at]]
        imagined = self.model.ground(self._after(ticks)[at]) - self.model.ground(self.start[at])
        return true[:, along], imagined[:, along]

    def miss(self, thing: str, ticks: int) -> FloatArray:
        """(n,) metres between where a thing is imagined to be after `ticks` (0: encoded) and where it is."""
        if ticks and ticks not in self.ticks:
            return np.zeros(0, np.float32)
        at, along = self.windows(ticks), columns(self.names, thing)[thing]
        latents = self._after(ticks)[at] if ticks else self.start[at]
        gap = self.model.ground(latents)[:, along] - self.positions[self.rows[at] + ticks][:, along]
        return np.linalg.norm(gap, axis=1)

    def cubes(self) -> tuple[str, ...]:
        """Names of the cubes among the grounded things."""
        return tuple(columns(self.names, "_cube"))

    def pushed(self, ticks: int) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """(true, imagined) displacements (n, 3) of cubes that are pushed, and their windows (n,)."""
        pairs = [self.motion(cube, ticks) for cube in self.cubes()]
        moving = [np.linalg.norm(true, axis=1) > PUSHED for true, _ in pairs]
        return (
            np.concatenate([true[keep] for (true, _), keep in zip(pairs, moving, strict=True)]),
            np.concatenate([imagined[keep] for (_, imagined), keep in zip(pairs, moving, strict=True)]),
            np.concatenate([self.windows(ticks)[keep] for keep in moving]),
        )

    def figures(self, others: EpisodeArrays, rows: NDArray[np.int64]) -> tuple[Figure, ...]:
        """Everything but the linear baseline, with 95 % intervals over episodes.

        others, rows: rendered rows of other episodes, of the same layout, that the probes are fitted on.

        ratio: mean squared latent error over persistence's. rms_ratio: its root, the same as a distance.
        horizon: see `horizon`; _tip and _cube: of their displacements in metres. contact: share of a pushed
        cube's motion that is imagined, 1 - |error| / |motion|. tip_slope: regression slope of imagined on
        true fingertip displacement; 1 is right. A horizon that no episode is long enough for is null. Of a
        model that grounds no fingertip, or no cubes, there are no figures of those; state_ratio, of one that
        grounds neither: squared error of what is read from the latent, over persistence's.
        """
        out = []
        for ticks in self.horizons:
            ratio = quotient(f"imagination.ratio_{ticks}", *self.error(ticks), self._of(ticks))
            out += [ratio, mapped(ratio, f"imagination.rms_ratio_{ticks}", np.sqrt)]
        out.append(self.horizon("imagination.horizon", self.error))
        if self.grounds(TIP):
            tip = self.horizon("imagination.horizon_tip", lambda ticks: self.motion_error([TIP], ticks))
            out.append(tip)
        if cubes := self.cubes():
            out.append(
                self.horizon("imagination.horizon_cube", lambda ticks: self.motion_error(cubes, ticks))
            )
        out.append(Figure("imagination.horizon_searched", max(self.ticks), "ticks"))
        out += self._probes(others, rows)
        for ticks in (0, *self.horizons):
            episode = self._of(ticks)
            if self.grounds(TIP):
                out.append(mean(f"imagination.tip_mm_{ticks}", 1e3 * self.miss(TIP, ticks), episode, "mm"))
            if cubes:
                missed = np.mean([self.miss(cube, ticks) for cube in cubes], axis=0)
                out.append(mean(f"imagination.cube_mm_{ticks}", 1e3 * missed, episode, "mm"))
            if ticks and not cubes and not self.grounds(TIP):
                name = f"imagination.state_ratio_{ticks}"
                out.append(quotient(name, *self.state_error(ticks), self._of(ticks)))
        if self.grounds(TIP):
            ticks = self.slope_ticks
            true, imagined = self.motion(TIP, ticks)
            name = f"imagination.tip_slope_{ticks}"
            out.append(quotient(name, np.sum(true * imagined, 1), np.sum(true * true, 1), self._of(ticks)))
        if not cubes:
            return tuple(out)
        true, imagined, window = self.pushed(self.contact_ticks)
        name = f"imagination.contact_{self.contact_ticks}"
        missed, moved = np.linalg.norm(imagined - true, axis=1), np.linalg.norm(true, axis=1)
        contact = quotient(name, missed, moved, self.episode[window])
        return (*out, mapped(contact, name, lambda value: 1.0 - value))

    def grounds(self, thing: str) -> bool:
        """Whether the model grounds the position of a thing."""
        return thing in columns(self.names, thing)

    def state_error(self, ticks: int) -> tuple[FloatArray, FloatArray]:
        """Squared error (n,) of all that is grounded, each over its deviation; and of persistence."""
        at = self.windows(ticks) if ticks in self.ticks else np.zeros(0, np.int64)
        spread = self.positions.std(0)
        later = self.positions[self.rows[at] + ticks]
        read = self.model.ground(self._after(ticks)[at]) if len(at) else later
        still = self.positions[self.rows[at]]
        varies = spread > 0
        return tuple(  # type: ignore[return-value]
            np.sum(((guess - later)[:, varies] / spread[varies]) ** 2, axis=1) for guess in (read, still)
        )

    def horizon(self, name: str, errors: Callable[[int], tuple[FloatArray, FloatArray]]) -> Figure:
        """The last searched tick before persistence is as good again; 0 where it always is.

        errors: ticks -> squared errors (n,) of imagination and persistence over `windows(ticks)`. Before the
        first tick at which the model is better there is little motion to foresee: that counts for nothing.
        A model that stays better has the last, `imagination.horizon_searched`, and may be better for longer.
        Null where nothing ever moves.
        """
        groups = np.unique(self.episode)
        sums = np.zeros((2, len(self.ticks), len(groups)))
        for number, ticks in enumerate(self.ticks):
            member = np.searchsorted(groups, self._of(ticks))
            for part, values in enumerate(errors(ticks)):
                sums[part, number] = np.bincount(member, values, len(groups))
        if not sums[1].sum() > 0:
            return Figure(name, math.nan, "ticks", 0)
        value = self._last_better(sums.sum(-1)[..., None])[0]
        low, high = np.percentile(self._last_better(sums[:, :, draws(len(groups))].sum(-1)), [2.5, 97.5])
        return Figure(name, int(value), "ticks", len(self.rows), float(low), float(high))

    def motion_error(self, things: Sequence[str], ticks: int) -> tuple[FloatArray, FloatArray]:
        """Squared error (n,) in m2 of the imagined displacement of things, and of none at all."""
        pairs = [self.motion(thing, ticks) for thing in things]
        missed = sum(np.sum((imagined - true) ** 2, axis=1) for true, imagined in pairs)
        return missed, sum(np.sum(true**2, axis=1) for true, _ in pairs)

    def linear_figures(self, others: EpisodeArrays, rows: NDArray[np.int64]) -> tuple[Figure, ...]:
        """ratio_linear: the error of a linear map of latent and actions over persistence's, as `ratio`.

        others, rows: rendered rows of other episodes, of the same layout, that the map is fitted on.
        """
        check_layout(self.model, others)
        forecasts = fit_forecasts(self.model, others, rows, self.horizons)
        out = []
        for ticks in self.horizons:
            name, at = f"imagination.ratio_linear_{ticks}", self.windows(ticks)
            if ticks not in forecasts or not len(at):
                out.append(Figure(name, math.nan, "", 0))
                continue
            actions = self.data.actions[self.rows[at][:, None] + np.arange(ticks)]
            guess = forecasts[ticks](self.start[at], actions)
            error = np.sum((guess - self._encoded(self.rows[at] + ticks)) ** 2, axis=1)
            out.append(quotient(name, error, self.error(ticks)[1], self._of(ticks)))
        return tuple(out)

    def _probes(self, others: EpisodeArrays, rows: NDArray[np.int64]) -> list[Figure]:
        check_layout(self.model, others)
        return probe_figures(
            "imagination.probe_r2_",
            things(self.names),
            (encode_rows(self.model, others, rows), positions(others)[rows]),
            (self._latents, self.positions[self._encoded_rows]),
            self.data.row_episode()[self._encoded_rows],
        )

    def _last_better(self, sums: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) ticks from summed errors (2, len(ticks), n), ours and persistence's."""
        better = sums[0] < _AS_GOOD * sums[1]
        begun = np.logical_or.accumulate(better)
        # A draw without a window of that length says nothing against the model.
        lost = begun & ~better & (sums[1] > 0)
        first_loss = np.where(lost.any(0), np.argmax(lost, axis=0), len(self.ticks))
        return np.where(begun[-1], np.array([0, *self.ticks])[first_loss], 0)

    def _after(self, ticks: int) -> FloatArray:
        return self.predicted[:, self.ticks.index(ticks)]

    def _encoded(self, rows: NDArray[np.int64]) -> FloatArray:
        return self._latents[np.searchsorted(self._encoded_rows, rows)]

    def _of(self, ticks: int) -> NDArray[np.int64]:
        """Episodes (n,) of `windows(ticks)`."""
        return self.episode[self.windows(ticks)]

"""How well a world model imagines: latent error against persistence, probes, metres, contact.

A latent error alone proves nothing: an encoder that collapses gets a better one. So it is reported beside a
linear probe (is the world still in the latent?) and errors in metres (is it still right after h ticks?).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.training.sequences import (
    TIP,
    columns,
    frame_stride,
    frames,
    grounding_names,
    positions,
    window_starts,
)
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

HORIZONS = (5, 10, 20)
# A cube that moves further than this within the longest horizon (0.4 s) is being pushed, metres.
PUSHED = 0.01
_RIDGE = 1e-3
_DRAWS = 1000

Progress = Callable[[float, str], None]


class Imagination:
    """One model's imagined latents along windows of held-out episodes, beside what came.

    W windows, each from a rendered row; positions (metres, base frame) are ordered as `names`.
    rows: (W,) first rows. start: (W, D) their latents. predicted: (W, H, D) latents after each action.
    """

    def __init__(
        self, model: WorldModel, data: EpisodeArrays, episodes: NDArray[np.int64], most: int | None = None
    ) -> None:
        """most: windows to look at, evenly spread; all of them when None.

        Raises ValueError when the data set is of another layout than the model, or no episode is long enough.
        """
        _check_layout(model, data)
        self.model, self.data = model, data
        self.names = grounding_names(data)
        self.positions = positions(data)
        stride = frame_stride(data)
        # A horizon at which there is no image moves up to the next that has one, and says so in its name.
        self.horizons = tuple(-(-ticks // stride) * stride for ticks in HORIZONS)
        longest = max(self.horizons)
        rows = window_starts(data, episodes, longest)
        if most is not None and len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
        self.rows = rows
        self.episode = data.row_episode()[rows]
        needed, back = np.unique(
            np.concatenate([rows, *(rows + ticks for ticks in self.horizons)]), return_inverse=True
        )
        self._latents = encode_rows(model, data, needed)
        parts = np.split(self._latents[back], 1 + len(self.horizons))
        self.start, self._later = parts[0], dict(zip(self.horizons, parts[1:], strict=True))
        self._encoded_rows = needed
        actions = data.actions[rows[:, None] + np.arange(longest)]
        self.predicted = model.rollout(self.start, actions)

    def error(self, ticks: int) -> tuple[FloatArray, FloatArray]:
        """Squared latent error (W,) of imagination, and of persistence, `ticks` after the start."""
        later = self._later[ticks]
        imagined = np.sum((self.predicted[:, ticks - 1] - later) ** 2, axis=1)
        return imagined, np.sum((self.start - later) ** 2, axis=1)

    def motion(self, thing: str, ticks: int) -> tuple[FloatArray, FloatArray]:
        """(true, imagined) displacement (W, 3) in metres of a thing `ticks` after the start."""
        at = columns(self.names, thing)[thing]
        true = self.positions[self.rows + ticks] - self.positions[self.rows]
        imagined = self.model.ground(self.predicted[:, ticks - 1]) - self.model.ground(self.start)
        return true[:, at], imagined[:, at]

    def miss(self, thing: str, ticks: int) -> FloatArray:
        """(W,) metres between where a thing is imagined to be after `ticks` (0: encoded) and where it is."""
        at = columns(self.names, thing)[thing]
        latents = self.predicted[:, ticks - 1] if ticks else self.start
        gap = self.model.ground(latents)[:, at] - self.positions[self.rows + ticks][:, at]
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
            np.concatenate([np.flatnonzero(keep) for keep in moving]),
        )

    def figures(self, others: EpisodeArrays, rows: NDArray[np.int64]) -> tuple[Figure, ...]:
        """Everything, with 95 % intervals over episodes.

        others, rows: rendered rows of other episodes, of the same layout, that the probes are fitted on.

        ratio: mean squared latent error over persistence's. rms_ratio: its root, the same as a distance.
        contact: share of a pushed cube's motion that is imagined, 1 - |error| / |motion|.
        tip_slope: regression slope of imagined on true fingertip displacement; 1 is right.
        """
        out = []
        for ticks in self.horizons:
            ours, still = self.error(ticks)
            ratio = self._quotient(f"imagination.ratio_{ticks}", ours, still)
            out += [ratio, _mapped(ratio, f"imagination.rms_ratio_{ticks}", np.sqrt)]
        out += self._probes(others, rows)
        for ticks in (0, *self.horizons):
            out.append(self._mean(f"imagination.tip_mm_{ticks}", 1e3 * self.miss(TIP, ticks), "mm"))
            cubes = np.mean([self.miss(cube, ticks) for cube in self.cubes()], axis=0)
            out.append(self._mean(f"imagination.cube_mm_{ticks}", 1e3 * cubes, "mm"))
        ticks = self.horizons[1]
        true, imagined = self.motion(TIP, ticks)
        out.append(
            self._quotient(
                f"imagination.tip_slope_{ticks}", np.sum(true * imagined, 1), np.sum(true * true, 1)
            )
        )
        true, imagined, window = self.pushed(max(self.horizons))
        name = f"imagination.contact_{max(self.horizons)}"
        missed, moved = np.linalg.norm(imagined - true, axis=1), np.linalg.norm(true, axis=1)
        out.append(_mapped(self._quotient(name, missed, moved, window), name, lambda value: 1.0 - value))
        return tuple(out)

    def _probes(self, others: EpisodeArrays, rows: NDArray[np.int64]) -> list[Figure]:
        _check_layout(self.model, others)
        fitted, known = encode_rows(self.model, others, rows), positions(others)[rows]
        episode = self.data.row_episode()[self._encoded_rows]
        out = []
        for name, things in (("tip", (TIP,)), ("cube", self.cubes())):
            at = [column for thing in things for column in columns(self.names, thing)[thing]]
            truth = self.positions[self._encoded_rows][:, at]
            guess = probe(fitted, known[:, at], self._latents)
            residual = np.sum((guess - truth) ** 2, axis=1)
            spread = np.sum((truth - truth.mean(0)) ** 2, axis=1)
            figure = _bootstrap(f"imagination.probe_r2_{name}", residual, spread, episode)
            out.append(_mapped(figure, figure.name, lambda value: 1.0 - value))
        return out

    def _quotient(
        self, name: str, above: FloatArray, below: FloatArray, window: NDArray[np.int64] | None = None
    ) -> Figure:
        return _bootstrap(name, above, below, self.episode if window is None else self.episode[window])

    def _mean(self, name: str, values: FloatArray, unit: str) -> Figure:
        return _bootstrap(name, values, np.ones_like(values), self.episode, unit)


def encode_rows(model: WorldModel, data: EpisodeArrays, rows: NDArray[np.int64]) -> FloatArray:
    """Latents (len(rows), D) of rows that have an image."""
    out = np.empty((len(rows), model.latent_dim), np.float32)
    images = {camera: frames(data, camera, rows) for camera in model.manifest.cameras}
    for number, row in enumerate(rows):
        out[number] = model.encode({name: seen[number] for name, seen in images.items()}, data.states[row])
    return out


def probe(fitted: FloatArray, truth: FloatArray, latents: FloatArray) -> NDArray[np.float64]:
    """Ridge regression from latents (n, D) to truth (n, k), applied to other latents (m, D): (m, k)."""
    mean, spread = fitted.mean(0), fitted.std(0) + 1e-6
    x = ((fitted - mean) / spread).astype(np.float64)
    centre = truth.mean(0)
    gram = x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, x.T @ (truth - centre))
    return ((latents - mean) / spread) @ weight + centre


def plot(imagination: Imagination, path: Path) -> None:
    """Error over time in the latent and in metres, and imagined against true motion, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(canvas)
    ((ratios, metres), (tip, contact)) = canvas.subplots(2, 2)
    ticks = list(imagination.horizons)
    sums = [[float(np.sum(part)) for part in imagination.error(t)] for t in ticks]
    ratios.plot(ticks, [ours / still for ours, still in sums], "o-")
    ratios.set(xlabel="ticks ahead", ylabel="squared latent error / persistence", ylim=(0, None))
    every = range(max(ticks) + 1)
    for thing in (TIP, *imagination.cubes()):
        metres.plot(every, [1e3 * float(imagination.miss(thing, t).mean()) for t in every], label=thing)
    metres.set(xlabel="ticks ahead", ylabel="mean error, mm", ylim=(0, None))
    metres.legend()
    pairs = (
        (tip, imagination.motion(TIP, ticks[1]), f"fingertip over {ticks[1]} ticks"),
        (contact, imagination.pushed(ticks[2])[:2], f"pushed cubes over {ticks[2]} ticks"),
    )
    for axes, (true, imagined), title in pairs:
        for axis, name in enumerate("xy"):
            axes.plot(1e3 * true[:, axis], 1e3 * imagined[:, axis], ".", markersize=2, label=name)
        reach = 1e3 * float(np.abs(true).max(initial=1e-3))
        axes.plot([-reach, reach], [-reach, reach], color="grey", linewidth=0.8)
        axes.set(xlabel="true motion, mm", ylabel="imagined, mm", title=title)
        axes.legend()
    canvas.savefig(path, dpi=80)


def _check_layout(model: WorldModel, data: EpisodeArrays) -> None:
    manifest = model.manifest
    for name, expected, found in (
        ("robot", manifest.robot, data.robot),
        ("proprio_names", manifest.proprio_names, data.state_names),
        ("grounding_names", manifest.grounding_names, grounding_names(data)),
    ):
        if expected != found:
            raise ValueError(f"{name}: the model {manifest.name} has {expected}, the data set {found}")
    missing = [camera for camera in manifest.cameras if camera not in data.images]
    if missing:
        raise ValueError(f"the data set has no camera {missing}; it has {sorted(data.images)}")


def _bootstrap(
    name: str, above: NDArray, below: NDArray, episode: NDArray[np.int64], unit: str = ""
) -> Figure:
    """sum(above) / sum(below) with its 95 % interval, episodes drawn with replacement.

    Rows of one episode resemble each other; drawing rows would claim a certainty that is not there.
    """
    groups, member = np.unique(episode, return_inverse=True)
    sums = np.stack([np.bincount(member, part, len(groups)) for part in (above, below)])
    draws = np.random.default_rng(0).integers(len(groups), size=(_DRAWS, len(groups)))
    top, bottom = sums[:, draws].sum(-1)
    if not sums[1].sum() > 0:  # nothing moved: there is no share of nothing
        return Figure(name, math.nan, unit, 0)
    # A draw in which nothing moved says nothing.
    low, high = np.percentile(top[bottom > 0] / bottom[bottom > 0], [2.5, 97.5])
    return Figure(name, float(sums[0].sum() / sums[1].sum()), unit, len(above), float(low), float(high))


def _mapped(figure: Figure, name: str, change: Callable[[float], float]) -> Figure:
    """The figure through a monotonic function; one that could not be measured stays so."""
    if figure.low is None or figure.high is None:
        return Figure(name, math.nan, figure.unit, figure.n)
    low, high = sorted((float(change(figure.low)), float(change(figure.high))))
    return Figure(name, float(change(float(figure.value))), figure.unit, figure.n, low, high)


def evaluate(
    world_model: str,
    data: Path | None = None,
    episodes: int = 12,
    windows: int = 2000,
    png: Path | None = None,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Judge a world model on episodes that it was not trained on.

    data: a held-out data set, or None to record `episodes` each of reach, push and play. Either way the
    probes are fitted on freshly recorded play in scenes of its own. png: where to plot. Raises ModelRefused
    for a model, ValueError for data that do not fit or were trained on.
    """
    from wm_vla_ros import world_models
    from wm_vla_ros.data.lerobot_reader import load_episodes
    from wm_vla_ros.evaluation import held_out
    from wm_vla_ros.robots.spec import load_robot

    model = world_models.load(world_model)
    manifest = model.manifest
    manifest.check_robot(load_robot(manifest.robot))
    sizes = set(manifest.cameras.values())
    if len(sizes) != 1:
        raise ValueError(f"cameras of different sizes cannot be recorded: {manifest.cameras}")
    cameras = held_out.Cameras(tuple(manifest.cameras), *sizes.pop())
    if data is None:
        total = episodes * len(held_out.KINDS)
        judged = held_out.record(
            episodes,
            manifest.robot,
            cameras,
            lambda done: progress(0.5 * done / total, f"episode {done} of {total}"),
        )
    elif data.name in manifest.dataset:
        raise ValueError(f"{data.name} is what {manifest.name} was trained on: {', '.join(manifest.dataset)}")
    else:
        judged = load_episodes(data, cameras.names)
    scenes = held_out.record_probe_scenes(
        manifest.robot,
        cameras,
        lambda done: progress(0.5 + 0.3 * done / held_out.PROBE_SCENES, f"probe scene {done}"),
    )
    progress(0.8, "imagining")
    imagination = Imagination(model, judged, np.arange(judged.episodes), windows)
    figures = imagination.figures(scenes, scenes.frame_rows)
    if png is not None:
        plot(imagination, png)
    progress(1.0, "")
    circumstances = {
        "world_model": manifest.name,
        "encoder_id": manifest.encoder_id,
        "data": data.name if data else "recorded for this evaluation, scenes never trained on",
        "episodes": judged.episodes,
        **conditions(),
    }
    return Report("eval imagination", circumstances, figures)

"""`wm-vla eval surprise`: does a world model find the impossible more surprising than what can be?

Surprise is the distance between where cubes are imagined to be under the executed actions and where they
are then seen, both read from latents by the model's grounding, in the plane of the table, each coordinate in
units of the error that is usual in it over that many ticks. Beside it the same of the whole latent, which is
mostly about the arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import draws, mean
from wm_vla_ros.data.sequences import columns
from wm_vla_ros.judging import judged
from wm_vla_ros.judging.judged import Draw, Progress
from wm_vla_ros.lab.impossible import KINDS, TICKS, Moments, record_moments
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

# Of every so many episodes one tells what error is usual, and is not judged.
_CALIBRATED = 3
# Of the mean usual error: a direction that is always right is not infinitely surprising when it is not.
_FLOOR = 0.01


@dataclass(frozen=True)
class Surprise:
    """Scores (n,) of the possible and the impossible endings of the same moments, by one model.

    still_possible, still_impossible: the same of persistence, which expects everything to stay. latent_*: of
    the whole latent in place of the cubes. kind: (n,).
    """

    possible: NDArray[np.float64]
    impossible: NDArray[np.float64]
    still_possible: NDArray[np.float64]
    still_impossible: NDArray[np.float64]
    latent_possible: NDArray[np.float64]
    latent_impossible: NDArray[np.float64]
    kind: NDArray[np.str_]
    episode: NDArray[np.int64]

    def figures(self) -> list[Figure]:
        """AUROC over all moments and per kind, the model's and persistence's, intervals over episodes.

        pairs: share of the moments whose impossible end surprises more than the possible one of the same.
        _latent: with the surprise of the whole latent.
        """
        out = []
        for suffix, pair in (
            ("", (self.impossible, self.possible)),
            ("_persistence", (self.still_impossible, self.still_possible)),
            ("_latent", (self.latent_impossible, self.latent_possible)),
        ):
            out.append(auroc(f"surprise.auroc{suffix}", *pair, self.episode))
            for kind in KINDS:
                mine = self.kind == kind
                scores = [score[mine] for score in pair]
                out.append(auroc(f"surprise.auroc_{kind}{suffix}", *scores, self.episode[mine]))
            told = (pair[0] > pair[1]) + 0.5 * (pair[0] == pair[1])
            out.append(mean(f"surprise.pairs{suffix}", told, self.episode))
        return out


def score(model: WorldModel, moments: Moments) -> Surprise:
    """Every third episode says what error is usual; the scores are of the others.

    Raises ValueError when that leaves no moment on either side, or the model grounds no cubes.
    """
    usual = moments.episode % _CALIBRATED == 0
    if usual.all() or not usual.any():
        raise ValueError(f"need moments of {_CALIBRATED} episodes, got {np.unique(moments.episode).tolist()}")
    names = model.grounding_names
    plane = [at for cube in columns(names, "_cube").values() for at in cube[:2]]
    if not plane:
        raise ValueError(f"{model.manifest.name} grounds no cube that could surprise it: {list(names)}")
    start = _encode(model, moments.before, moments.proprio_before)
    came = _encode(model, moments.after, moments.proprio_after)
    changed = _encode(model, moments.changed, moments.proprio_after)
    expected = model.rollout(start, moments.actions)[:, -1]

    def cubes(latents: FloatArray) -> FloatArray:
        return model.ground(latents)[:, plane]

    scores = [
        side
        for guess, ends in (
            (cubes(expected), (cubes(came), cubes(changed))),
            (cubes(start), (cubes(came), cubes(changed))),
            (expected, (came, changed)),
        )
        for side in _surprises(guess, *ends, usual)
    ]
    return Surprise(*scores, moments.kind[~usual], moments.episode[~usual])


def _surprises(
    guess: FloatArray, came: FloatArray, changed: FloatArray, usual: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Surprise (n,) at what came and at what is impossible, where not `usual` (N,); all else (N, K)."""
    scale = np.mean(np.square(guess - came, dtype=np.float64)[usual], axis=0)
    scale += _FLOOR * scale.mean() + 1e-12
    first, second = (
        np.sqrt(np.mean((guess - seen)[~usual] ** 2 / scale, axis=1)) for seen in (came, changed)
    )
    return first, second


def auroc(
    name: str, positive: NDArray[np.float64], negative: NDArray[np.float64], episode: NDArray[np.int64]
) -> Figure:
    """The chance that a positive (n,) scores above a negative (n,), a tie counting half.

    Mann and Whitney's statistic; entry i of both is of episode[i], and whole episodes are drawn for the
    95 % interval.
    """
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    groups, member = np.unique(episode, return_inverse=True)
    belongs = np.eye(len(groups))[member]
    between, size = belongs.T @ wins @ belongs, belongs.sum(0)
    times = np.stack([np.bincount(draw, minlength=len(groups)) for draw in draws(len(groups))])
    drawn = np.einsum("de,ef,df->d", times, between, times) / (times @ size) ** 2
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(name, float(wins.mean()), "", len(positive), float(low), float(high))


def evaluate(
    world_models: Sequence[str], episodes: int = 40, progress: Progress = lambda share, note: None
) -> tuple[Report, Draw]:
    """The report, and what draws it: figures `<family>.surprise.*`, over `episodes` of simulated play.

    Raises ModelRefused for a model, ValueError when they do not fit side by side or episodes are too few.
    """
    bench = judged.load_judged(world_models)
    moments = record_moments(
        bench.simulated(),
        bench.cameras,
        episodes,
        lambda done: progress(0.8 * done / episodes, f"episode {done} of {episodes}"),
    )
    found = {}
    for done, (name, model) in enumerate(bench.models.items()):
        progress(0.8 + 0.2 * done / len(bench.models), f"{name} is surprised")
        found[name] = score(model, moments)
    progress(1.0, "")
    figures = [figure for name, own in found.items() for figure in judged.named(name, own.figures())]
    circumstances = {**bench.conditions(), "episodes": episodes, "ticks": TICKS, **conditions()}
    return Report("eval surprise", circumstances, tuple(figures)), lambda path: plot(found, path)


def plot(found: Mapping[str, Surprise], path: Path | BinaryIO) -> None:
    """A PNG with, for every model, the distribution of its surprise by kind and its ROC curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11, 4.2 * len(found)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(found), 2, squeeze=False)
    for (name, own), (spread, roc) in zip(found.items(), panels, strict=True):
        groups = [own.possible, *(own.impossible[own.kind == kind] for kind in KINDS)]
        spread.boxplot(groups, tick_labels=["possible", *KINDS], whis=(5, 95), showfliers=False)
        spread.set(ylabel="surprise, usual errors", yscale="log", title=name)
        for label, positive, negative, style in (
            (name, own.impossible, own.possible, "-"),
            ("persistence", own.still_impossible, own.still_possible, "--"),
        ):
            bounds = np.sort(np.concatenate([positive, negative, [np.inf]]))[::-1]
            shares = [[np.mean(side >= bound) for bound in bounds] for side in (negative, positive)]
            roc.plot(*shares, style, label=label)
        roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        roc.set(xlabel="possible called impossible", ylabel="impossible found", title="ROC, all kinds")
        roc.legend()
    canvas.savefig(path, dpi=80, format="png")


def _encode(model: WorldModel, images: Mapping[str, NDArray[np.uint8]], proprio: FloatArray) -> FloatArray:
    """Latents (N, D)."""
    cameras = model.manifest.cameras
    return np.stack(
        [model.encode({name: images[name][row] for name in cameras}, own) for row, own in enumerate(proprio)]
    )

"""What a world model's heads are worth on held-out episodes, beside what needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import TIP, columns, grounding_names, positions, window_starts
from wm_vla_ros.judging.imagination import encode_rows
from wm_vla_ros.planning.objective.uncertainty import Spread
from wm_vla_ros.report import Figure
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.heads import Heads
from wm_vla_ros.world_models.protocol import WorldModel

_PAIRS, _DRAWS = 4000, 300


@dataclass(frozen=True)
class HeadData:
    """Latents of episodes, and what a world model imagines from them.

    latents: (F, D) of rendered rows, frame_row: (F,) their rows, frame_last: (F,) index of the last frame of
    each one's episode, frame_episode: (F,). rollouts: (W, H, D) from each frame with H more rows behind it,
    under the recorded actions (W, H, A); error: (W,) metres by which the motion of tip and cubes was missed
    at the end, as one vector; window_episode: (W,).
    """

    latents: FloatArray
    frame_row: NDArray[np.int64]
    frame_last: NDArray[np.int64]
    frame_episode: NDArray[np.int64]
    rollouts: FloatArray
    actions: FloatArray
    error: FloatArray
    window_episode: NDArray[np.int64]

    @classmethod
    def of(cls, model: WorldModel, data: EpisodeArrays, episodes: NDArray[np.int64]) -> HeadData:
        """Raises ValueError when no episode is as long as the model's horizon."""
        row_episode, horizon = data.row_episode(), model.manifest.horizon
        rows = data.frame_rows[np.isin(row_episode[data.frame_rows], episodes)]
        latents = encode_rows(model, data, rows)
        of_frame = row_episode[rows]
        starts = window_starts(data, episodes, horizon)
        start = latents[np.searchsorted(rows, starts)]
        actions = data.actions[starts[:, None] + np.arange(horizon)]
        rollouts = model.rollout(start, actions)
        names = grounding_names(data)
        things = [*columns(names, TIP)[TIP], *np.concatenate(list(columns(names, "_cube").values())).tolist()]
        where = positions(data)[:, things]
        imagined = (model.ground(rollouts[:, -1]) - model.ground(start))[:, things]
        missed = imagined - (where[starts + horizon] - where[starts])
        return cls(
            latents,
            rows,
            np.searchsorted(of_frame, of_frame, side="right") - 1,
            of_frame,
            rollouts,
            actions,
            np.linalg.norm(missed, axis=1),
            row_episode[starts],
        )

    def pairs(
        self, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Indices of `count` frames, of one at or after each in its episode, and the ticks between them."""
        first = rng.integers(len(self.latents), size=count)
        second = rng.integers(first, self.frame_last[first], endpoint=True)
        return first, second, self.frame_row[second] - self.frame_row[first]


def figures(heads: Heads, data: HeadData) -> tuple[Figure, ...]:
    """Rank correlations with the truth and their 95 % intervals, episodes drawn with replacement.

    temporal: predicted with true ticks between two frames of an episode; euclidean: the same of the latents'
    distance; temporal_gain: how much more the first is. uncertainty: expected with true error of a rollout;
    travel: the same of how far the latent goes; uncertainty_gain: how much more the first is.
    """
    first, second, ticks = data.pairs(_PAIRS, np.random.default_rng(0))
    here, there = data.latents[first], data.latents[second]
    predicted = heads.ticks(here, there)
    distance = np.linalg.norm(here - there, axis=1)
    expected = heads.error(data.rollouts, data.actions)
    travel = np.linalg.norm(data.rollouts[:, -1] - data.rollouts[:, 0], axis=1)
    of_pair = data.frame_episode[first]
    return (
        *compared("heads.", "temporal", "euclidean", predicted, distance, ticks, of_pair),
        Figure("heads.temporal_error", float(np.median(np.abs(predicted - ticks))), "ticks", len(ticks)),
        *compared("heads.", "uncertainty", "travel", expected, travel, data.error, data.window_episode),
    )


def spread_figures(model: WorldModel, data: EpisodeArrays, episodes: NDArray[np.int64]) -> tuple[Figure, ...]:
    """What the model's own doubt is worth on held-out episodes; nothing of a model that has none.

    Nor of data without a fingertip and cubes, whose motion in metres is what the doubt is held against.
    spread.uncertainty, travel, uncertainty_gain: as in `figures`. spread.scale: root mean square of the true
    error over that of the doubt; above 1 it is too sure of itself.
    """
    if model.spread(np.zeros((1, model.latent_dim), np.float32)) is None:
        return ()
    names = grounding_names(data)
    if not columns(names, TIP) or not columns(names, "_cube"):
        return ()
    seen = HeadData.of(model, data, episodes)
    expected = Spread(model).error(seen.rollouts, seen.actions)
    travel = np.linalg.norm(seen.rollouts[:, -1] - seen.rollouts[:, 0], axis=1)
    scale = float(np.sqrt(np.mean(np.square(seen.error)) / np.mean(np.square(expected))))
    return (
        *compared("spread.", "uncertainty", "travel", expected, travel, seen.error, seen.window_episode),
        Figure("spread.scale", scale, "", len(expected)),
    )


def compared(
    prefix: str,
    name: str,
    baseline: str,
    ours: NDArray,
    theirs: NDArray,
    truth: NDArray,
    episode: NDArray[np.int64],
) -> list[Figure]:
    """Rank correlations with `truth` (N,) of `ours` and of a baseline, `theirs`, and how much more ours has.

    With 95 % intervals over the draws of the episodes (N,) that the rows are from.
    """
    statistics: dict[str, Callable[[NDArray[np.int64]], float]] = {
        f"{name}_rank": lambda rows: rank_correlation(ours[rows], truth[rows]),
        f"{baseline}_rank": lambda rows: rank_correlation(theirs[rows], truth[rows]),
        f"{name}_gain": lambda rows: (
            rank_correlation(ours[rows], truth[rows]) - rank_correlation(theirs[rows], truth[rows])
        ),
    }
    groups = [np.flatnonzero(episode == one) for one in np.unique(episode)]
    rng = np.random.default_rng(0)
    draws = [
        np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        for _ in range(_DRAWS)
    ]
    out = []
    for label, statistic in statistics.items():
        low, high = np.percentile([statistic(rows) for rows in draws], [2.5, 97.5])
        value = statistic(np.arange(len(truth)))
        out.append(Figure(f"{prefix}{label}", value, "", len(truth), float(low), float(high)))
    return out


def rank_correlation(x: NDArray, y: NDArray) -> float:
    """Spearman's: the correlation of ranks, equal values sharing the mean of theirs."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: NDArray) -> NDArray[np.float64]:
    _, member, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - 0.5 * (count - 1))[member]

"""The baseline that any world model has to beat: what a linear map of latent and actions foresees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.judging.encodings import encode_rows
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

_MOST, _FEWEST = 3000, 50
# Strengths that are tried, as a share of the inputs' variance, on a fifth of the episodes.
_RIDGES = 10.0 ** np.arange(-4.0, 2.0)


@dataclass(frozen=True)
class LinearForecast:
    """x' - x = [x, actions] W: (D,) latents `ticks` later. mean, spread: of the inputs (D + ticks A,)."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    weight: NDArray[np.float64]
    centre: NDArray[np.float64]

    def __call__(self, latents: FloatArray, actions: FloatArray) -> NDArray[np.float64]:
        """Latents (N, D) after actions (N, ticks, A) in latents (N, D)."""
        return latents + (_inputs(latents, actions) - self.mean) / self.spread @ self.weight + self.centre


def fit_forecasts(
    model: WorldModel, data: EpisodeArrays, rows: NDArray[np.int64], horizons: tuple[int, ...]
) -> dict[int, LinearForecast]:
    """One for each of the horizons (ticks), fitted on windows that begin in `rows`, which have an image.

    Ridge regression, its strength chosen on a fifth of the episodes. A horizon for which there are fewer
    than 50 windows with an image at their end is left out.
    """
    episode = data.row_episode()
    pairs = {}
    for ticks in horizons:
        end = rows + ticks
        fits = (end < data.starts[episode[rows] + 1]) & np.isin(end, data.frame_rows)
        starts = rows[fits]
        if len(starts) >= _FEWEST:
            spread = np.linspace(0, len(starts) - 1, min(len(starts), _MOST)).astype(np.int64)
            pairs[ticks] = starts[spread]
    if not pairs:
        return {}
    needed = np.unique(np.concatenate([np.concatenate([s, s + ticks]) for ticks, s in pairs.items()]))
    latents = encode_rows(model, data, needed)
    out = {}
    for ticks, starts in pairs.items():
        before, after = (latents[np.searchsorted(needed, at)] for at in (starts, starts + ticks))
        actions = data.actions[starts[:, None] + np.arange(ticks)]
        out[ticks] = _fit(_inputs(before, actions), (after - before).astype(np.float64), episode[starts])
    return out


def _inputs(latents: FloatArray, actions: FloatArray) -> NDArray[np.float64]:
    return np.concatenate([latents, actions.reshape(len(actions), -1)], axis=1).astype(np.float64)


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], episode: NDArray[np.int64]) -> LinearForecast:
    kept = np.unique(episode, return_inverse=True)[1] % 5 == 4
    errors = []
    if kept.any() and not kept.all():
        for strength in _RIDGES:
            tried = _solve(x[~kept], y[~kept], strength)
            guess = (x[kept] - tried.mean) / tried.spread @ tried.weight + tried.centre
            errors.append(float(np.sum((guess - y[kept]) ** 2)))
    return _solve(x, y, _RIDGES[int(np.argmin(errors))] if errors else 1.0)


def _solve(x: NDArray[np.float64], y: NDArray[np.float64], strength: float) -> LinearForecast:
    mean, spread, centre = x.mean(0), x.std(0) + 1e-6, y.mean(0)
    scaled = (x - mean) / spread
    gram = scaled.T @ scaled + strength * len(x) * np.eye(x.shape[1])
    return LinearForecast(mean, spread, np.linalg.solve(gram, scaled.T @ (y - centre)), centre)

"""Probabilities of success from a margin, and what they are worth: Brier score, calibration, AUROC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import draws, mean
from wm_vla_ros.report import Figure

BINS = 10
_ITERATIONS, _RIDGE = 50, 1e-3


@dataclass(frozen=True)
class Platt:
    """P(success | margin) = sigmoid(slope * (margin - centre) / scale + offset), margins in metres.

    Platt, "Probabilistic outputs for support vector machines", 1999, with its smoothed targets.
    """

    centre: float
    scale: float
    slope: float
    offset: float

    @classmethod
    def fit(cls, margin: NDArray[np.float64], happened: NDArray[np.bool_]) -> Platt:
        """By Newton's method. Raises ValueError unless margins (n,) are finite and both outcomes occur."""
        wins, losses = int(happened.sum()), int((~happened).sum())
        if not wins or not losses or not np.all(np.isfinite(margin)):
            raise ValueError(f"need finite margins of both outcomes, got {wins} successes, {losses} failures")
        centre, scale = float(margin.mean()), float(margin.std()) + 1e-9
        target = np.where(happened, (wins + 1.0) / (wins + 2.0), 1.0 / (losses + 2.0))
        x = np.stack([(margin - centre) / scale, np.ones(len(margin))], axis=1)
        weights = np.zeros(2)
        for _ in range(_ITERATIONS):
            p = _sigmoid(x @ weights)
            gradient = x.T @ (p - target) + _RIDGE * weights
            hessian = (x * (p * (1.0 - p))[:, None]).T @ x + _RIDGE * np.eye(2)
            weights = weights - np.linalg.solve(hessian, gradient)
        return cls(centre, scale, float(weights[0]), float(weights[1]))

    def __call__(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (n,) of margins (n,)."""
        return _sigmoid(self.slope * (margin - self.centre) / self.scale + self.offset)


def reliability(
    probability: NDArray[np.float64], happened: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(mean probability, share that happened, count) of equally wide bins that hold something."""
    member = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(member, minlength=BINS)
    kept = count > 0
    said = np.bincount(member, probability, BINS)[kept] / count[kept]
    came = np.bincount(member, happened.astype(np.float64), BINS)[kept] / count[kept]
    return said, came, count[kept]


def calibration_error(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> float:
    """Expected calibration error over bins of equal width (Naeini et al., AAAI 2015)."""
    said, came, count = reliability(probability, happened)
    return float(np.sum(count * np.abs(said - came)) / count.sum())


def figures(prefix: str, probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> list[Figure]:
    """`prefix`auroc, brier, ece of probabilities (n,), with 95 % intervals over trials (n,).

    brier: mean squared difference of probability and outcome (Brier, 1950). The calibration error of a
    perfect forecast is above 0 with few trials, and a draw's above the whole's: it has no interval.
    """
    trial = np.arange(len(happened))
    brier = mean(f"{prefix}brier", (probability - happened) ** 2, trial)
    ece = Figure(f"{prefix}ece", calibration_error(probability, happened), "", len(trial))
    return [_ranked(f"{prefix}auroc", probability, happened), brier, ece]


def _ranked(name: str, probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> Figure:
    """The chance that a success was given a higher probability than a failure, a tie counting half."""
    if happened.all() or not happened.any():
        return Figure(name, np.nan, "", 0)
    won, lost = probability[happened], probability[~happened]
    wins = (won[:, None] > lost) + 0.5 * (won[:, None] == lost)
    times = np.stack([np.bincount(draw, minlength=len(happened)) for draw in draws(len(happened))])
    ours, theirs = times[:, happened], times[:, ~happened]
    pairs = ours.sum(1) * theirs.sum(1)
    kept = pairs > 0
    drawn = np.einsum("di,ij,dj->d", ours[kept], wins, theirs[kept], optimize=True) / pairs[kept]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(name, float(wins.mean()), "", len(happened), float(low), float(high))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))

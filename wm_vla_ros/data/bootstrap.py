"""95 % intervals by drawing whole episodes with replacement.

Rows of one episode resemble each other; drawing rows would claim a certainty that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.report import Figure

_DRAWS = 1000


def draws(groups: int) -> NDArray[np.int64]:
    """(draws, groups) indices of drawn groups, the same in every run."""
    return np.random.default_rng(0).integers(groups, size=(_DRAWS, groups))


def quotient(name: str, above: NDArray, below: NDArray, episode: NDArray[np.int64], unit: str = "") -> Figure:
    """sum(above) / sum(below) with its interval; all (n,). NaN with n 0 when nothing was measured."""
    if not np.sum(below) > 0:  # nothing moved: there is no share of nothing
        return Figure(name, math.nan, unit, 0)
    groups, member = np.unique(episode, return_inverse=True)
    sums = np.stack([np.bincount(member, part, len(groups)) for part in (above, below)])
    top, bottom = sums[:, draws(len(groups))].sum(-1)
    # A draw in which nothing moved says nothing.
    low, high = np.percentile(top[bottom > 0] / bottom[bottom > 0], [2.5, 97.5])
    return Figure(name, float(sums[0].sum() / sums[1].sum()), unit, len(above), float(low), float(high))


def mean(name: str, values: NDArray, episode: NDArray[np.int64], unit: str = "") -> Figure:
    """Mean of values (n,) with its interval."""
    return quotient(name, values, np.ones(len(values)), episode, unit)


def mapped(figure: Figure, name: str, change: Callable[[float], float]) -> Figure:
    """The figure through a monotonic function; one that could not be measured stays so."""
    if figure.low is None or figure.high is None:
        return Figure(name, math.nan, figure.unit, figure.n)
    low, high = sorted((float(change(figure.low)), float(change(figure.high))))
    return Figure(name, float(change(float(figure.value))), figure.unit, figure.n, low, high)

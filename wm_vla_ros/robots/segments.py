"""Distances between line segments, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def segment_distance(
    p1: NDArray[np.floating], q1: NDArray[np.floating], p2: NDArray[np.floating], q2: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Least distance (...) between segments p1 q1 and p2 q2, each (3, ...); a segment may be a point.

    Ericson, Real-Time Collision Detection (2005), section 5.1.9, without its branches: the nearest point of
    the first line, clamped to its segment; the second's nearest to that, clamped; the first's to that. NaN
    in, NaN out. Coordinates come first so that the inner loops are long.
    """
    d1, d2, r = q1 - p1, q2 - p2, p1 - p2
    a, e, b = _dot(d1, d1), _dot(d2, d2), _dot(d1, d2)
    c, f = _dot(d1, r), _dot(d2, r)
    limits = np.finfo(a.dtype)
    product = a * e
    # Below rounding the determinant says no more than that the lines are parallel: then any point will do.
    determinant = np.maximum(product - b * b, np.maximum(8 * limits.eps * product, limits.tiny))
    s = _unit((b * f - c * e) / determinant)
    t = _unit((b * s + f) / np.maximum(e, limits.tiny))
    s = _unit((b * t - c) / np.maximum(a, limits.tiny))
    gap = r + d1 * s - d2 * t
    return np.sqrt(_dot(gap, gap))


def _unit(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """`x` clamped to [0, 1]; np.clip costs several times as much on arrays as small as these."""
    return np.minimum(np.maximum(x, 0.0), 1.0)


def _dot(u: NDArray[np.floating], v: NDArray[np.floating]) -> NDArray[np.floating]:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]

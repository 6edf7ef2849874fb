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
    tiny = np.finfo(a.dtype).tiny
    a_safe, e_safe = np.maximum(a, tiny), np.maximum(e, tiny)
    # Of parallel lines any point will do; below rounding the determinant says nothing but that.
    denominator = a * e - b * b
    skew = denominator > 8 * np.finfo(a.dtype).eps * a * e
    s = np.clip(np.where(skew, (b * f - c * e) / np.where(skew, denominator, 1.0), 0.0), 0.0, 1.0)
    t = np.clip((b * s + f) / e_safe, 0.0, 1.0)
    s = np.clip((b * t - c) / a_safe, 0.0, 1.0)
    gap = r + d1 * s - d2 * t
    return np.sqrt(_dot(gap, gap))


def _dot(u: NDArray[np.floating], v: NDArray[np.floating]) -> NDArray[np.floating]:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]

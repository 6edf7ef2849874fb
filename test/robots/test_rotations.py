"""Rotation vectors and matrices are each other's inverse, at every size of angle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wm_vla_ros.robots.action_map import rotation_matrix, rotation_vector

DIRECTIONS = (
    st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3)
    .map(np.array)
    .filter(lambda v: np.linalg.norm(v) > 0.1)
    .map(lambda v: v / np.linalg.norm(v))
)
ANGLES = st.one_of(st.floats(0.0, np.pi - 1e-5), st.floats(-9.0, -1.0).map(lambda power: 10.0**power))


@given(direction=DIRECTIONS, angle=ANGLES)
@example(direction=np.array([0.6, 0.0, 0.8]), angle=1e-5)
@example(direction=np.array([0.6, 0.0, 0.8]), angle=np.pi - 1e-5)
def test_a_vector_survives_the_way_through_its_matrix(direction, angle: float) -> None:
    """A turn of 1e-5 rad once came back as 7e-3 rad: an eigenvector of three nearly equal eigenvalues."""
    turn = direction * angle
    np.testing.assert_allclose(rotation_vector(rotation_matrix(turn)), turn, atol=1e-9)


@given(direction=DIRECTIONS, angle=ANGLES)
def test_a_matrix_is_a_proper_rotation_by_that_angle(direction, angle: float) -> None:
    matrix = rotation_matrix(direction * angle)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert np.trace(matrix) == pytest.approx(1.0 + 2.0 * np.cos(angle))
    np.testing.assert_allclose(matrix @ direction, direction, atol=1e-12)


def test_no_turn_is_the_identity() -> None:
    np.testing.assert_array_equal(rotation_matrix(np.zeros(3)), np.eye(3))
    np.testing.assert_array_equal(rotation_vector(np.eye(3)), np.zeros(3))


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    quarter = np.array([0.0, 0.0, np.pi / 2])
    np.testing.assert_allclose(rotation_matrix(quarter) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-12)
    assert rotation_vector(np.diag([-1.0, -1.0, 1.0])) == pytest.approx([0.0, 0.0, np.pi])

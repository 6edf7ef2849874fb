"""A goal as a path in metres: where along it the arm is, and how fast it may go on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.goals.path import GroundedPath

STEPS = 41
LINE = np.array([0.2, 0.0, 0.1]) + np.linspace(0.0, 1.0, STEPS)[:, None] * [0.0, 0.12, 0.0]


@pytest.fixture(scope="module")
def line(make_goal, linear_model) -> GroundedPath:
    """3 mm a tick along y; nothing is touched."""
    return GroundedPath(make_goal(LINE), linear_model, free_pace=2.0)


@pytest.fixture(scope="module")
def push(make_goal, linear_model) -> GroundedPath:
    """The same, but the cube moves along from step 20 to step 30."""
    cubes = np.tile([0.2, 0.1, 0.0125], (STEPS, 1))
    cubes[20:30, 1] += 0.003 * np.arange(10)
    cubes[30:, 1] += 0.03
    return GroundedPath(make_goal(LINE, cubes), linear_model, free_pace=2.0)


def test_grounded_points_are_those_of_the_goal(line) -> None:
    assert line.steps == STEPS
    np.testing.assert_allclose(line.grounded[:, line.tip], LINE, atol=1e-6)
    assert line.cubes == [3, 4, 5]


@pytest.mark.parametrize(
    "time, progress", [(9.0, 0.0), (10.0, 0.0), (10.1, 5.0), (10.21, 10.5), (10.8, 40.0), (99.0, 40.0)]
)
def test_where_the_policy_meant_to_be(line, time: float, progress: float) -> None:
    assert line.progress_at(time) == pytest.approx(progress)


@given(at=st.integers(0, STEPS - 1), off=st.floats(-3.0, 3.0), side=st.floats(-0.02, 0.02))
def test_the_nearest_point_is_found_beside_the_path_too(line, at: int, off: float, side: float) -> None:
    tip = LINE[at] + [side, 0.0, 0.0]
    assert line.nearest(tip.astype(np.float32), at + off) == at


def test_the_search_looks_ahead_but_not_everywhere(make_goal, linear_model) -> None:
    """A path that comes back to where it began must be gone along, not skipped to its end."""
    there_and_back = np.concatenate([LINE, LINE[::-1]])
    path = GroundedPath(make_goal(there_and_back), linear_model, free_pace=1.0)
    assert path.nearest(LINE[0].astype(np.float32), 0.0) == 0.0
    assert path.nearest(LINE[0].astype(np.float32), 81.0) == 81.0
    assert path.nearest(LINE[20].astype(np.float32), 0.0) <= 8.0


def test_where_the_path_stands_still_the_policy_s_own_time_decides(make_goal, linear_model) -> None:
    path = GroundedPath(make_goal(np.tile(LINE[0], (30, 1))), linear_model, free_pace=1.0)
    for around in (3.0, 10.0, 25.0):
        assert path.nearest(LINE[0].astype(np.float32), around) == around


def test_free_space_is_travelled_at_the_free_pace_and_contact_at_the_policy_s(line, push) -> None:
    assert np.all(line.pace == 2.0)
    assert np.all(push.pace[20:30] == 1.0)
    assert np.all(push.pace[15:20] == 1.0)  # care begins before contact
    assert push.pace[0] == 2.0
    assert push.pace[-1] == 2.0


def test_a_still_cube_that_the_grounding_head_sees_shiver_is_not_contact(make_goal, linear_model) -> None:
    noise = np.random.default_rng(0).normal(0.0, 5e-5, (STEPS, 3))
    path = GroundedPath(make_goal(LINE, noise + np.array([0.2, 0.1, 0.0125])), linear_model, free_pace=2.0)
    assert np.all(path.pace == 2.0)


@given(start=st.floats(0.0, STEPS - 1.0), ticks=st.integers(1, 30))
def test_a_schedule_goes_forwards_at_the_path_s_pace_and_stops_at_its_end(
    push, start: float, ticks: int
) -> None:
    schedule = push.schedule(start, ticks)
    steps = np.diff(np.concatenate([[start], schedule]))
    assert schedule.shape == (ticks,)
    assert np.all(steps >= 0)
    assert np.all(steps <= 2.0 + 1e-9)
    assert schedule[-1] <= STEPS - 1
    assert push.schedule(STEPS - 1.0, 5) == pytest.approx([STEPS - 1.0] * 5)


def test_a_schedule_in_free_space_and_through_contact(line, push) -> None:
    np.testing.assert_allclose(line.schedule(3.0, 4), [5.0, 7.0, 9.0, 11.0])
    np.testing.assert_allclose(push.schedule(22.0, 4), [23.0, 24.0, 25.0, 26.0])


@given(at=st.lists(st.floats(0.0, STEPS - 1.0), min_size=1, max_size=10))
def test_points_between_steps_are_interpolated(line, linear_model, at) -> None:
    at = np.array(at)
    grounded, latents = line.points(at)
    expected = LINE[0] + at[:, None] / (STEPS - 1) * (LINE[-1] - LINE[0])
    np.testing.assert_allclose(grounded[:, line.tip], expected, atol=1e-5)
    np.testing.assert_allclose(linear_model.ground(latents), grounded, atol=1e-5)


def test_a_single_point_is_a_path_to_stand_on(make_goal, linear_model) -> None:
    path = GroundedPath(make_goal(LINE[0]), linear_model, free_pace=2.0)
    assert path.steps == 1
    assert path.progress_at(50.0) == 0.0
    np.testing.assert_array_equal(path.schedule(0.0, 3), 0.0)
    grounded, _ = path.points(path.schedule(0.0, 3))
    np.testing.assert_allclose(grounded[:, :3], np.tile(LINE[0], (3, 1)), atol=1e-6)
    assert path.nearest(LINE[5].astype(np.float32), 0.0) == 0.0

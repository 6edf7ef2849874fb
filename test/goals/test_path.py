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
    """3 mm a tick along y."""
    return GroundedPath(make_goal(LINE), linear_model, pace=2.0, contact_pace=1.0)


@pytest.fixture(scope="module")
def push(make_goal, linear_model) -> GroundedPath:
    """The same, but the cube moves along from step 20 to step 30."""
    cubes = np.tile([0.2, 0.1, 0.0125], (STEPS, 1))
    cubes[20:30, 1] += 0.003 * np.arange(10)
    cubes[30:, 1] += 0.03
    return GroundedPath(make_goal(LINE, cubes), linear_model, pace=2.0, contact_pace=1.0)


def test_grounded_points_are_those_of_the_goal(line) -> None:
    assert line.steps == STEPS
    np.testing.assert_allclose(line.grounded[:, line.tip], LINE, atol=1e-6)
    assert line.cubes == [3, 4, 5]


@pytest.mark.parametrize(
    "time, progress", [(9.0, 0.0), (10.0, 0.0), (10.1, 5.0), (10.21, 10.5), (10.8, 40.0), (99.0, 40.0)]
)
def test_where_the_policy_meant_to_be(line, time: float, progress: float) -> None:
    assert line.progress_at(time) == pytest.approx(progress)


@given(at=st.integers(0, STEPS - 1), behind=st.integers(0, 4), side=st.floats(-0.02, 0.02))
def test_progress_walks_on_to_the_nearest_point_beside_the_path_too(line, at: int, behind: int, side) -> None:
    tip = LINE[at] + [side, 0.0, 0.0]
    start = max(0, at - behind)
    assert line.advance(tip.astype(np.float32), float(start)) == at


def test_progress_never_runs_backwards(line) -> None:
    assert line.advance(LINE[3].astype(np.float32), 10.0) == 10.0


def test_a_path_that_folds_is_gone_along_and_not_cut_short(make_goal, linear_model) -> None:
    """Up, and down again beside it: the way down is as near as the way up, and must not be jumped to."""
    there_and_back = np.concatenate([LINE, LINE[::-1]])
    path = GroundedPath(make_goal(there_and_back), linear_model, pace=1.0, contact_pace=1.0)
    progress = 0.0
    for i in range(len(LINE)):
        progress = path.advance(LINE[i].astype(np.float32), progress)
        assert progress == i
    assert path.advance(LINE[20].astype(np.float32), 61.0) == 61.0


def test_an_arm_that_stood_still_while_the_policy_inferred_begins_at_the_beginning(line) -> None:
    """Entering where the policy meant to be by now would skip the motion in between."""
    for late in (10.0, 10.1, 10.4):
        assert line.entry(LINE[0].astype(np.float32), late) == pytest.approx(0.0, abs=1.0)


def test_an_arm_that_went_ahead_enters_where_it_is(line) -> None:
    assert line.entry(LINE[12].astype(np.float32), 10.2) == pytest.approx(12.0, abs=1.0)


def test_free_space_is_travelled_at_one_pace_and_contact_at_another(line, push) -> None:
    assert np.all(line.pace == 2.0)
    assert np.all(push.pace[20:30] == 1.0)
    assert np.all(push.pace[15:20] == 1.0)  # care begins before contact
    assert push.pace[0] == 2.0
    assert push.pace[-1] == 2.0


def test_a_still_cube_that_the_grounding_head_sees_shiver_is_not_contact(make_goal, linear_model) -> None:
    noise = np.random.default_rng(0).normal(0.0, 5e-5, (STEPS, 3))
    goal = make_goal(LINE, noise + np.array([0.2, 0.1, 0.0125]))
    assert np.all(GroundedPath(goal, linear_model, pace=2.0, contact_pace=1.0).pace == 2.0)


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
    path = GroundedPath(make_goal(LINE[0]), linear_model, pace=2.0, contact_pace=1.0)
    assert path.steps == 1
    assert path.progress_at(50.0) == 0.0
    np.testing.assert_array_equal(path.schedule(0.0, 3), 0.0)
    grounded, _ = path.points(path.schedule(0.0, 3))
    np.testing.assert_allclose(grounded[:, :3], np.tile(LINE[0], (3, 1)), atol=1e-6)
    assert path.entry(LINE[5].astype(np.float32), 50.0) == 0.0
    assert path.advance(LINE[5].astype(np.float32), 0.0) == 0.0


AT_THE_END = LINE[-1] + [0.0, 0.02, -0.08]


@pytest.fixture(scope="module")
def approach(make_goal, linear_model) -> GroundedPath:
    """Down to a cube that stands still."""
    tips = LINE - [0.0, 0.0, 0.08] * np.linspace(0.0, 1.0, STEPS)[:, None]
    return GroundedPath(
        make_goal(tips, np.tile(AT_THE_END, (STEPS, 1))), linear_model, pace=1.0, contact_pace=1.0
    )


def present(path: GroundedPath, at: int, moved: tuple[float, float, float]) -> np.ndarray:
    """What is grounded when everything is as the path has it at tick `at`, but the cube `moved` on."""
    now = path.grounded[at].copy()
    now[path.cubes] += np.float32(moved)
    return now


@pytest.mark.parametrize("at", [0, 20, STEPS - 1])
def test_a_path_goes_along_with_the_object_that_it_leads_to(approach, at: int) -> None:
    shift = approach.shift(present(approach, at, (0.033, 0.0, 0.01)), float(at))
    np.testing.assert_allclose(shift[approach.tip], [0.03, 0.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(shift[approach.cubes], [0.03, 0.0, 0.0], atol=1e-5)


def test_what_grounding_errs_by_shifts_nothing(approach) -> None:
    assert not approach.shift(present(approach, 5, (0.002, -0.002, 0.02)), 5.0).any()


def test_a_path_is_not_carried_away(approach) -> None:
    shift = approach.shift(present(approach, 5, (0.0, -0.4, 0.0)), 5.0)
    np.testing.assert_allclose(shift[approach.tip], [0.0, -0.05, 0.0], atol=1e-5)


def test_an_object_that_the_path_does_not_lead_to_shifts_nothing(line) -> None:
    assert not line.shift(present(line, 5, (0.04, 0.0, 0.0)), 5.0).any()


def test_a_path_that_pushes_its_object_is_about_where_that_is_to_go(make_goal, linear_model) -> None:
    """Shifted with a cube that slipped, it would end beside the pad by as much."""
    tips = np.array([0.2, 0.0, 0.02]) + np.linspace(0.0, 1.0, STEPS)[:, None] * [0.0, 0.12, 0.0]
    cubes = tips + np.array([0.0, 0.025, 0.0])
    path = GroundedPath(make_goal(tips, cubes), linear_model, pace=1.0, contact_pace=1.0)
    assert not path.shift(present(path, 30, (-0.013, 0.0, 0.0)), 30.0).any()

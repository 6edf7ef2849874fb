"""How far along its path an arm is that follows, waits, or cannot go where the path leads."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.goals.path import GroundedPath
from wm_vla_ros.goals.path_progress import PathProgress

STEPS = 41
LINE = np.array([0.2, 0.0, 0.1]) + np.linspace(0.0, 1.0, STEPS)[:, None] * [0.0, 0.12, 0.0]
# Of the first path tick, as make_goal stamps it.
BEGIN, DT = 10.0, 0.02


@pytest.fixture
def line(make_goal, linear_model) -> GroundedPath:
    return GroundedPath(make_goal(LINE), linear_model, pace=2.0, contact_pace=2.0)


def tip(row: int) -> np.ndarray:
    return LINE[row].astype(np.float32)


def test_an_arm_that_follows_is_where_it_is_and_not_where_the_clock_is(line) -> None:
    progress = PathProgress()
    assert progress.entered(line, tip(0), BEGIN + 0.3) == 0.0
    for row in (0, 1, 2, 4, 7, 9):
        assert progress.advance(line, tip(row)) == row


def test_progress_is_asked_for_only_on_a_path_that_was_entered(line) -> None:
    with pytest.raises(RuntimeError, match="not entered"):
        PathProgress().advance(line, tip(0))


def test_an_arm_that_stands_still_for_a_moment_is_waited_for(line) -> None:
    progress = PathProgress()
    progress.entered(line, tip(3), BEGIN)
    progress.advance(line, tip(3))
    for _ in range(5):
        assert progress.advance(line, tip(3)) == 3.0


def test_where_the_arm_cannot_follow_the_policy_s_time_passes(line) -> None:
    """Out of the workspace and back, say: whoever waits for progress there would wait for ever."""
    progress = PathProgress()
    progress.entered(line, tip(3), BEGIN)
    reached = [progress.advance(line, tip(3)) for _ in range(30)]
    assert np.all(np.diff(reached) >= 0.0)
    assert np.all(np.diff(reached) <= 1.0)
    assert 15.0 < reached[-1] < 30.0


def test_who_got_stuck_enters_the_next_path_where_the_policy_means_to_be(line) -> None:
    progress = PathProgress()
    progress.entered(line, tip(3), BEGIN)
    for _ in range(20):
        progress.advance(line, tip(3))
    progress.enter()
    assert progress.entered(line, tip(0), BEGIN + 15 * DT) == pytest.approx(15.0)


def test_who_follows_again_enters_the_next_path_where_it_is(line) -> None:
    progress = PathProgress()
    progress.entered(line, tip(3), BEGIN)
    for _ in range(10):
        progress.advance(line, tip(3))
    progress.advance(line, tip(12))
    progress.enter()
    assert progress.entered(line, tip(0), BEGIN + 15 * DT) == 0.0


def test_waiting_at_the_end_of_a_path_is_not_being_stuck(line) -> None:
    progress = PathProgress()
    progress.entered(line, tip(STEPS - 1), BEGIN + 1.0)
    for _ in range(50):
        assert progress.advance(line, tip(STEPS - 1)) == STEPS - 1
    progress.enter()
    assert progress.entered(line, tip(0), BEGIN + 15 * DT) == 0.0

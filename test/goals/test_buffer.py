"""The goal in force: what may never steer the arm, and how long the earlier goal goes on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.goals.buffer import GoalBuffer, GoalRefused

TIP = [0.2, 0.0, 0.1]
DIM = 6


@pytest.fixture
def buffer(linear_model) -> GoalBuffer:
    return GoalBuffer(linear_model.encoder_id, DIM)


def spoiled(make_goal, at: tuple[int, int], value: float) -> np.ndarray:
    embeddings = np.array(make_goal([TIP] * 3).embeddings)
    embeddings[at] = value
    return embeddings


REFUSALS = {
    "encoder": (lambda g: {"encoder_id": "other-2"}, r"encoder_id 'other-2', this planner uses 'linear-1'"),
    "dimension": (lambda g: {"embeddings": np.ones((3, 5))}, r"embeddings are \(3, 5\), need .* of 6"),
    "no step": (lambda g: {"embeddings": np.ones((0, DIM))}, r"embeddings are \(0, 6\), need at least one"),
    "nan": (lambda g: {"embeddings": spoiled(g, (1, 4), np.nan)}, r"step 1, entry 4 is nan"),
    "inf": (lambda g: {"embeddings": spoiled(g, (2, 0), -np.inf)}, r"step 2, entry 0 is -inf"),
    "norm": (lambda g: {"embeddings": np.full((1, DIM), 1e6)}, r"norm 2\.45e\+06 is beyond 24\.5"),
    "one step's norm": (lambda g: {"embeddings": spoiled(g, (1, 0), 30.0)}, r"norm 30.* is beyond 24\.5"),
    "norm that overflows float32": (lambda g: {"embeddings": np.full((1, DIM), 3e38)}, "is beyond"),
    "expired": (lambda g: {"stamp": 8.9}, r"expired 0\.100 s ago"),
    "ahead": (lambda g: {"stamp": 11.0}, r"stamped 1\.000 s ahead"),
    "dt": (lambda g: {"dt": 0.0}, r"dt 0\.0 s and valid_for 1\.0 s must be positive"),
    "negative dt": (lambda g: {"dt": -0.02}, r"must be positive"),
    "valid_for": (lambda g: {"valid_for": 0.0}, r"must be positive"),
    "nan dt": (lambda g: {"dt": np.nan}, r"dt is nan"),
    "nan stamp": (lambda g: {"stamp": np.nan}, r"stamp is nan"),
    "endless": (lambda g: {"valid_for": np.inf}, r"valid_for is inf"),
    "confidence": (lambda g: {"confidence": 1.5}, r"confidence is 1\.5, must be between 0 and 1"),
    "nan confidence": (lambda g: {"confidence": np.nan}, r"confidence is nan"),
    "precision": (lambda g: {"precision": np.ones(5)}, r"precision must be 6 finite weights"),
    "negative precision": (lambda g: {"precision": -np.ones(DIM)}, r"at least 0, got \[-1"),
    "nan precision": (lambda g: {"precision": np.full(DIM, np.nan)}, r"at least 0, got \[nan"),
    "same sequence": (lambda g: {"sequence": 4}, r"sequence 4 is not newer than 4"),
    "older sequence": (lambda g: {"sequence": 3}, r"sequence 3 is not newer than 4"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_bad_goal_is_refused_by_name_and_the_earlier_one_stays(buffer, make_goal, reason: str) -> None:
    """Fault cases 20 to 24: refused, and the earlier goal kept until it expires."""
    earlier = make_goal([TIP], sequence=4, stamp=9.9)
    buffer.offer(earlier, 9.95)
    fields, message = REFUSALS[reason]
    with pytest.raises(GoalRefused, match=message):
        buffer.offer(make_goal([TIP], **fields(make_goal)), 10.0)
    assert buffer.current(10.0) is earlier
    assert buffer.current(10.89) is earlier
    assert buffer.current(10.91) is None


@pytest.mark.parametrize("reason", [name for name in REFUSALS if "sequence" not in name])
def test_a_bad_goal_is_refused_when_there_is_no_other(buffer, make_goal, reason: str) -> None:
    fields, message = REFUSALS[reason]
    with pytest.raises(GoalRefused, match=message):
        buffer.offer(make_goal([TIP], **fields(make_goal)), 10.0)
    assert buffer.current(10.0) is None


def test_a_goal_is_in_force_until_its_own_time_runs_out(buffer, make_goal) -> None:
    assert buffer.current(0.0) is None
    goal = make_goal([TIP], valid_for=0.5)
    buffer.offer(goal, 10.2)
    assert buffer.current(10.5) is goal
    assert buffer.current(10.5 + 1e-6) is None


def test_a_newer_goal_takes_over_at_once(buffer, make_goal) -> None:
    buffer.offer(make_goal([TIP], sequence=1), 10.0)
    newer = make_goal([TIP], sequence=2, stamp=10.1)
    buffer.offer(newer, 10.2)
    assert buffer.current(10.2) is newer


@given(order=st.permutations(range(8)), valid_for=st.floats(0.05, 1.0))
def test_goals_out_of_order_never_go_back(make_goal, linear_model, order, valid_for: float) -> None:
    """Also when the newer goal was short-lived: a late older one has an older observation."""
    buffer, now, newest = GoalBuffer(linear_model.encoder_id, DIM), 10.0, -1
    for sequence in order:
        now += 0.05
        goal = make_goal([TIP], sequence=sequence, stamp=9.5 + 0.01 * sequence, valid_for=valid_for + 1.0)
        if sequence == max(order[: order.index(sequence) + 1]):
            buffer.offer(goal, now)
        else:
            with pytest.raises(GoalRefused):
                buffer.offer(goal, now)
        newest = max(newest, sequence)
        held = buffer.current(now)
        assert held is None or held.sequence == newest


def test_a_late_goal_does_not_come_back_after_the_newer_one_expired(buffer, make_goal) -> None:
    buffer.offer(make_goal([TIP], sequence=7, stamp=10.0, valid_for=0.1), 10.05)
    with pytest.raises(GoalRefused, match="sequence 6 is not newer than 7"):
        buffer.offer(make_goal([TIP], sequence=6, stamp=9.9, valid_for=5.0), 10.5)
    assert buffer.current(10.5) is None


def test_a_restarted_source_is_heard_once_the_old_goal_has_run_out(buffer, make_goal) -> None:
    buffer.offer(make_goal([TIP], sequence=70, valid_for=0.5), 10.1)
    restarted = make_goal([TIP], sequence=1, stamp=10.3)
    with pytest.raises(GoalRefused, match="sequence 1"):
        buffer.offer(restarted, 10.4)
    buffer.offer(restarted, 10.6)
    assert buffer.current(10.6) is restarted


def test_clearing_forgets_the_goal_and_its_number(buffer, make_goal) -> None:
    buffer.offer(make_goal([TIP], sequence=9), 10.0)
    buffer.clear()
    assert buffer.current(10.0) is None
    buffer.offer(make_goal([TIP], sequence=1), 10.0)
    assert buffer.current(10.0).sequence == 1


def test_a_goal_a_hair_ahead_of_this_clock_is_taken(buffer, make_goal) -> None:
    buffer.offer(make_goal([TIP], stamp=10.001), 10.0)
    assert buffer.current(10.0) is not None

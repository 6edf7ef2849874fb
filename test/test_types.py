"""The values between the pieces: frozen, of the right rank, and followed by time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.types import (
    ActionChunk,
    AppliedAction,
    Fault,
    LatentGoal,
    LoopStats,
    Observation,
    Plan,
    RobotState,
    Severity,
    frozen_array,
    to_dict,
)


def plan(rows: int = 4, start: float = 10.0, dt: float = 0.02) -> Plan:
    return Plan(9.9, 3, "mpc", start, dt, np.arange(rows * 7, dtype=np.float32).reshape(rows, 7))


def test_arrays_are_read_only_copies() -> None:
    """A planner may reuse its buffers while a value that was made from one still waits in a queue."""
    mine = np.ones((2, 7), np.float32)
    value = Plan(0.0, 1, "mpc", 0.0, 0.02, mine)
    mine[0, 0] = 5.0
    assert value.actions[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        value.actions[0, 0] = 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.sequence = 4


def test_arrays_get_their_dtype_and_layout() -> None:
    actions = np.asfortranarray(np.ones((3, 7), np.float64))
    chunk = ActionChunk(0.0, 1, "ee_delta", 0.02, actions)
    assert chunk.actions.dtype == np.float32
    assert chunk.actions.flags.c_contiguous
    state = RobotState(0.0, ("a",), [1], [2])
    assert state.position.dtype == np.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plan(0.0, 1, "mpc", 0.0, 0.02, np.ones(7)),
        lambda: ActionChunk(0.0, 1, "ee_delta", 0.02, np.ones((1, 2, 7))),
        lambda: LatentGoal(0.0, 1, "", "e", np.ones(4), 0.02, 1.0),
        lambda: LatentGoal(0.0, 1, "", "e", np.ones((1, 4)), 0.02, 1.0, precision=np.ones((4, 4))),
        lambda: Observation(0.0, {}, np.ones((1, 3))),
        lambda: AppliedAction(0.0, 1, "mpc", np.ones((1, 7)), ("a",), np.ones(1)),
        lambda: LoopStats(0.0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, "", np.ones(3)),
        lambda: frozen_array(3.0, 1, "latent"),
    ],
)
def test_another_rank_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"must have \d dimension"):
        make()


def test_a_state_has_one_number_per_joint() -> None:
    with pytest.raises(ValueError, match="velocity has 1 entries"):
        RobotState(0.0, ("a", "b"), [1.0, 2.0], [1.0])


def test_non_finite_values_can_be_held_so_that_they_can_be_refused_by_name() -> None:
    assert np.isnan(Plan(0.0, 1, "mpc", 0.0, 0.02, np.full((1, 7), np.nan)).actions).all()


@pytest.mark.parametrize(
    "offset, row", [(-1e-4, None), (0.0, 0), (0.0199, 0), (0.02, 1), (0.0799, 3), (0.08, None)]
)
def test_a_plan_is_followed_by_time(offset: float, row: int | None) -> None:
    assert plan().index_at(10.0 + offset) == row


@given(start=st.floats(0.0, 1e7), tick=st.integers(0, 49))
def test_a_tick_computed_by_adding_never_falls_into_the_row_before(start: float, tick: int) -> None:
    """start + tick * dt is not exactly representable: rounding must not play a row twice,
    on a machine that has been up for a day or for months.
    """
    value = plan(rows=50, start=start)
    assert value.index_at(start + tick * value.dt) == tick
    assert value.end == pytest.approx(start + 1.0)


def test_to_dict_is_plain() -> None:
    assert to_dict(Fault(1.0, "stale", Severity.ERROR, "driver", "text"))["severity"] == 2
    assert to_dict(plan(rows=1))["actions"] == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]


def test_the_rest_of_a_plan_is_as_old_as_the_plan_and_no_longer() -> None:
    value = plan(rows=4)
    rest = value.rest(10.04, sequence=8)
    np.testing.assert_array_equal(rest.actions, value.actions[2:])
    assert (rest.stamp, rest.sequence, rest.start) == (value.stamp, 8, 10.04)
    assert rest.end == pytest.approx(value.end)
    assert value.rest(10.08, sequence=8) is None

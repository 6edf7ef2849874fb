"""Writes may be late but never come in a burst."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.safety.pace import Pace

DT = 0.02


def test_ticks_on_time_always_pass() -> None:
    pace = Pace(DT)
    assert all(pace.take(k * DT) for k in range(10_000))


def test_a_late_tick_and_the_next_on_the_beat_pass() -> None:
    pace = Pace(DT)
    assert [pace.take(t * DT) for t in (0, 1, 2.4, 3, 4)] == [True] * 5


def test_a_tick_late_by_most_of_a_period_loses_none_when_the_next_keep_apart() -> None:
    pace = Pace(DT)
    assert [pace.take(t * DT) for t in (0, 1, 2.95, 3.5, 4, 5, 6.95, 7.5, 8, 9)] == [True] * 10


def test_two_ticks_at_once_do_not_pass() -> None:
    pace = Pace(DT)
    assert [pace.take(t * DT) for t in (0, 1, 2.8, 3, 4)] == [True, True, True, False, True]


def test_ticks_that_are_caught_up_do_not_pass() -> None:
    pace = Pace(DT)
    pace.take(0.0)
    stalled = 10 * DT
    assert [pace.take(stalled + k * 1e-4) for k in range(10)] == [True] + [False] * 9


@given(st.lists(st.floats(0, 3), min_size=1, max_size=100))
def test_no_window_holds_more_writes_than_its_ticks(gaps: list[float]) -> None:
    pace = Pace(DT)
    now, taken = 0.0, []
    for gap in gaps:
        now += gap * DT
        if pace.take(now):
            taken.append(now)
    for i, first in enumerate(taken):
        for j, last in enumerate(taken[i:], start=1):
            assert j <= (last - first) / DT + 2.0 + 1e-6

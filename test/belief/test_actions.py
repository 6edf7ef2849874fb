"""The timeline of actions: facts first, then what is in flight, then HOLD."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.types import AppliedAction, Plan

DT = 0.02


def act(value: float, gripper: float = 0.5) -> np.ndarray:
    return np.array([value, 0.0, 0.0, 0.0, 0.0, 0.0, gripper], np.float32)


def applied(tick: int, value: float) -> AppliedAction:
    return AppliedAction(tick * DT, tick, "mpc", act(value), ("joint",), np.zeros(1))


def plan(start: int, values, sequence: int = 1) -> Plan:
    return Plan(0.0, sequence, "mpc", start * DT, DT, np.stack([act(value) for value in values]))


@pytest.fixture
def timeline() -> ActionTimeline:
    timeline = ActionTimeline(DT, window=1.0)
    for tick in range(5):
        timeline.applied(applied(tick, 0.1 * tick))
    return timeline


def test_before_anything_is_known_there_is_no_action() -> None:
    timeline = ActionTimeline(DT)
    assert timeline.last_stamp is None
    assert timeline.at(0.0) is None
    assert timeline.between(0.0, 0.1) is None
    timeline.planned(plan(0, [0.3]))
    assert timeline.at(0.5) is None  # nobody knows where the gripper is


def test_an_applied_action_holds_until_the_next(timeline) -> None:
    assert timeline.last_stamp == 4 * DT
    assert timeline.at(-0.001) is None
    assert timeline.at(0.0)[0] == pytest.approx(0.0)
    assert timeline.at(2.9 * DT)[0] == pytest.approx(0.2)
    assert timeline.at(4.5 * DT)[0] == pytest.approx(0.4)


def test_past_facts_and_plans_the_arm_stands_with_its_gripper_as_it_was(timeline) -> None:
    np.testing.assert_array_equal(timeline.at(9 * DT), act(0.0, gripper=0.5))
    timeline.planned(plan(5, [0.7, 0.8]))
    np.testing.assert_array_equal(timeline.at(7.5 * DT), act(0.0, gripper=0.5))


def test_what_was_planned_stands_in_for_what_is_not_reported_yet(timeline) -> None:
    timeline.planned(plan(5, [0.7, 0.8]))
    assert timeline.at(5.5 * DT)[0] == pytest.approx(0.7)
    assert timeline.at(6.5 * DT)[0] == pytest.approx(0.8)
    assert timeline.at(3.5 * DT)[0] == pytest.approx(0.3)


def test_the_next_tick_keeps_the_drivers_phase(timeline) -> None:
    assert ActionTimeline(DT).next_tick(0.123) == 0.123  # no phase to keep yet
    assert timeline.next_tick(1.0 * DT) == pytest.approx(5 * DT)  # one that has passed cannot be planned for
    assert timeline.next_tick(6.0 * DT) == pytest.approx(6 * DT)
    assert timeline.next_tick(6.1 * DT) == pytest.approx(7 * DT)


def test_the_last_two_actions_span_facts_and_plans(timeline) -> None:
    assert ActionTimeline(DT).last_two(0.0) is None
    timeline.planned(plan(5, [0.7, 0.8]))
    np.testing.assert_array_equal(timeline.last_two(6 * DT), [act(0.4), act(0.7)])
    np.testing.assert_array_equal(timeline.last_two(1 * DT), [act(0.0), act(0.0)])  # only one is known


def test_a_report_overrules_the_plan(timeline) -> None:
    """The gate may have cut the planned action: what counts is what the arm was really told."""
    timeline.planned(plan(5, [0.7, 0.8]))
    timeline.applied(applied(5, 0.2))
    assert timeline.at(5.5 * DT)[0] == pytest.approx(0.2)
    assert timeline.at(6.5 * DT)[0] == pytest.approx(0.8)


def test_a_newer_plan_takes_over_at_its_start_and_not_before(timeline) -> None:
    timeline.planned(plan(5, [0.7, 0.8, 0.9], sequence=1))
    timeline.planned(plan(6, [-0.8, -0.9], sequence=2))
    assert [round(float(timeline.at((tick + 0.5) * DT)[0]), 3) for tick in range(5, 9)] == [
        0.7,
        -0.8,
        -0.9,
        0.0,
    ]


def test_of_several_plans_for_one_tick_the_newest_counts_and_no_earlier_tick_is_forgotten(timeline) -> None:
    """At 200 plans a second, eight kept plans reached back two ticks: what came before looked like HOLD."""
    for tick in range(5, 11):
        for count in range(4):
            timeline.planned(plan(tick, [0.1 * tick + 0.01 * count], sequence=4 * tick + count))
    assert [round(float(timeline.at((tick + 0.5) * DT)[0]), 2) for tick in range(5, 11)] == [
        0.53, 0.63, 0.73, 0.83, 0.93, 1.03,
    ]  # fmt: skip


def test_old_plans_are_forgotten(timeline) -> None:
    for i in range(100):
        timeline.planned(plan(5 + i, [0.1], sequence=i))
    assert len(timeline._plans) <= 8


@given(order=st.permutations(range(20)), repeated=st.lists(st.integers(0, 19), max_size=5))
def test_reports_may_come_in_any_order_and_twice(order, repeated) -> None:
    ordered, shuffled = ActionTimeline(DT), ActionTimeline(DT)
    for tick in range(20):
        ordered.applied(applied(tick, 0.01 * tick))
    for tick in (*order, *repeated):
        shuffled.applied(applied(tick, 0.01 * tick))
    assert shuffled.last_stamp == ordered.last_stamp
    np.testing.assert_array_equal(
        shuffled.between(0.0, 25 * DT).actions, ordered.between(0.0, 25 * DT).actions
    )


def test_what_is_in_force_between_two_times(timeline) -> None:
    timeline.planned(plan(5, [0.7]))
    span = timeline.between(2 * DT, 7 * DT)
    assert span.actions.shape == (5, 7)
    assert span.last == pytest.approx(1.0)
    assert span.ticks == pytest.approx(5.0)
    np.testing.assert_allclose(span.actions[:, 0], [0.2, 0.3, 0.4, 0.7, 0.0], atol=1e-6)
    for end in (2 * DT, DT):
        assert timeline.between(2 * DT, end).ticks == 0.0
        np.testing.assert_array_equal(timeline.between(2 * DT, end).translation(), 0.0)


def test_an_action_of_a_span_is_the_mean_of_the_ticks_that_it_overlaps(timeline) -> None:
    """An image comes 0.4 of a tick after the driver's: 0.6 of that tick's action are still to come."""
    timeline.planned(plan(5, [0.7]))
    span = timeline.between(2.4 * DT, 5.2 * DT)
    expected = [0.6 * 0.2 + 0.4 * 0.3, 0.6 * 0.3 + 0.4 * 0.4, (0.6 * 0.4 + 0.2 * 0.7) / 0.8]
    np.testing.assert_allclose(span.actions[:, 0], expected, atol=1e-6)
    assert span.last == pytest.approx(0.8)
    within = timeline.between(2.4 * DT, 2.7 * DT)
    np.testing.assert_allclose(within.actions[:, 0], [0.2], atol=1e-6)
    assert within.ticks == pytest.approx(0.3)


@given(cuts=st.lists(st.floats(0.0, 30.0), min_size=2, max_size=12), late=st.floats(-0.3, 0.3))
def test_however_a_span_is_divided_the_same_is_commanded_in_all(cuts, late: float) -> None:
    """A tick that was rounded away at every image added up to a fifth of the motion at 30 Hz."""
    timeline = ActionTimeline(DT)
    for tick in range(25):
        timeline.applied(applied(tick, 0.1 * np.sin(tick)))
    timeline.planned(plan(25, [0.7, 0.8]))
    times = sorted((cut + late * DT) * DT for cut in cuts if cut + late * DT >= 0.0)
    if len(times) < 2:
        return
    parts = [timeline.between(a, b) for a, b in pairwise(times)]
    whole = timeline.between(times[0], times[-1])
    assert sum(part.ticks for part in parts) == pytest.approx(whole.ticks, abs=1e-4)
    total = sum(part.translation() for part in parts)
    np.testing.assert_allclose(total, whole.translation(), atol=1e-4)


def test_a_span_that_begins_before_the_history_is_unknown(timeline) -> None:
    """Zero actions for the unknown part would be a made-up motion."""
    assert timeline.between(-2 * DT, 3 * DT) is None


def test_the_window_is_bounded(timeline) -> None:
    for tick in range(5, 500):
        timeline.applied(applied(tick, 0.1))
    assert timeline.at(499 * DT - 1.2) is None
    assert timeline.at(499 * DT - 0.9) is not None
    assert len(timeline._stamps) <= 51

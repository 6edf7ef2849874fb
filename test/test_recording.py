"""The loop's figures, from recordings whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.recording import Recording, TimeSpan, between, held_rate, loop_figures
from wm_vla_ros.types import AppliedAction, LoopStats

DT = 0.02


def stats(tick, stamp, lateness=0.1, plan=3.0, iterations=2, missed=0):
    return LoopStats(stamp, tick, lateness, plan, 40.0, 0.001, 0.0, iterations, missed, "tip")


def applied(stamp, sequence=1):
    return AppliedAction(stamp, sequence, "mpc", np.zeros(7), ("a",), [0.0])


def steady(ticks=500):
    """A run without a flaw: both loops on every tick."""
    times = 100.0 + DT * np.arange(ticks)
    return Recording([stats(i, t) for i, t in enumerate(times)], [applied(t, i) for i, t in enumerate(times)])


def figures(recording, seconds=10.0, instructions=(), stalls=()):
    found = loop_figures(recording, TimeSpan(100.0, 100.0 + seconds), instructions, DT, stalls)
    return {figure.name: figure.value for figure in found}


def test_a_run_without_a_flaw():
    found = figures(steady(), instructions=[TimeSpan(101.0, 105.0)])
    assert found["loop.rate_hz"] == pytest.approx(50.0)
    assert found["driver.rate_hz"] == pytest.approx(50.0)
    for name in ("loop.late_ratio", "loop.missed_ticks", "loop.missed_actions"):
        assert found[name] == 0
    assert found["plan.p50_ms"] == found["plan.p99_ms"] == pytest.approx(3.0)


def test_a_loop_that_died_half_way_does_not_keep_its_rate():
    """Counted between the first and the last tick that was heard, a dead loop had run at 50 Hz."""
    recording = steady()
    del recording.stats[250:]
    assert figures(recording)["loop.rate_hz"] == pytest.approx(25.0)


def test_statistics_that_were_lost_on_the_way_are_no_lost_ticks():
    recording = steady()
    recording.stats = recording.stats[:100] + recording.stats[150:]
    found = figures(recording)
    assert found["loop.rate_hz"] == pytest.approx(50.0)
    assert found["loop.missed_ticks"] == 0


def test_a_late_tick_is_one_that_begins_after_a_fifth_of_the_period():
    recording = steady()
    for index, lateness in ((10, 3.9), (20, 4.1), (30, 15.0)):
        recording.stats[index] = stats(index, 100.0 + DT * index, lateness=lateness)
    assert figures(recording)["loop.late_ratio"] == pytest.approx(2 / 500)


def test_a_faster_loop_is_judged_by_its_own_period():
    times = 100.0 + 0.5 * DT * np.arange(1000)
    recording = Recording([stats(i, t) for i, t in enumerate(times)], steady().applied)
    for index, lateness in ((10, 1.9), (20, 2.1)):
        recording.stats[index] = stats(index, times[index], lateness=lateness)
    found = {
        figure.name: figure.value
        for figure in loop_figures(
            recording, TimeSpan(100.0, 110.0), [TimeSpan(101.0, 105.0)], DT, period=0.5 * DT
        )
    }
    assert found["loop.late_ratio"] == pytest.approx(1 / 1000)
    assert found["loop.rate_hz"] == pytest.approx(100.0)
    assert (found["driver.rate_hz"], found["loop.missed_actions"]) == (pytest.approx(50.0), 0)


def test_the_latest_tick_is_one_that_was_left_out():
    recording = steady()
    recording.stats[250:] = [stats(i, 100.1 + DT * i, missed=5) for i in range(250, 500)]
    recording.stats[250] = stats(250, 100.1 + DT * 250, lateness=3.0, missed=5)
    assert figures(recording)["loop.lateness_max_ms"] == pytest.approx(103.0)
    assert figures(recording)["loop.gap_max_ms"] == pytest.approx(120.0)


def test_ticks_that_were_left_out_count_as_late():
    recording = steady(490)
    recording.stats[-1] = stats(489, 100.0 + DT * 489, missed=10)
    found = figures(recording)
    assert found["loop.missed_ticks"] == 10
    assert found["loop.late_ratio"] == pytest.approx(10 / 500)


def test_an_action_is_missed_when_the_driver_held_or_did_not_tick_while_an_instruction_was_followed():
    recording = steady()
    recording.applied[100] = applied(102.0, sequence=-1)  # held
    del recording.applied[110:113]  # did not tick
    recording.applied[400] = applied(108.0, sequence=-1)  # after the instruction
    assert figures(recording, instructions=[TimeSpan(101.0, 105.0)])["loop.missed_actions"] == 4


def test_actions_missed_while_the_machine_stood_still_are_told_apart_and_still_count():
    recording = steady()
    del recording.applied[110:113]  # 102.20 to 102.24: the machine stood still
    del recording.applied[200:202]  # 104.06 and 104.08 or so: the driver's own doing
    stalls = [TimeSpan(102.19, 102.25), TimeSpan(103.001, 103.012)]
    found = figures(recording, instructions=[TimeSpan(101.0, 105.0)], stalls=stalls)
    assert found["loop.missed_actions"] == 5
    assert found["loop.missed_in_stalls"] == 3


def test_waiting_for_the_first_inference_is_no_missed_action():
    recording = steady()
    for index in range(60):
        recording.applied[index] = applied(100.0 + DT * index, sequence=-1)
    assert figures(recording, instructions=[TimeSpan(100.5, 105.0)])["loop.missed_actions"] == 0


def test_what_is_left_of_the_plan_before_does_not_begin_an_instruction():
    """The last plan of one instruction ran on into the next; waiting for the first one was "missed"."""
    recording = steady()
    for index in range(100, 130):
        # Ten ticks of the old plan, then twenty of waiting, then the new instruction's first plan.
        recording.applied[index] = applied(100.0 + DT * index, sequence=99 if index < 110 else -1)
    assert figures(recording, instructions=[TimeSpan(101.99, 105.0)])["loop.missed_actions"] == 0


def test_an_instruction_that_no_plan_ever_followed_has_no_missed_actions_but_no_ticks_behind_it_either():
    recording = steady()
    recording.applied = [applied(item.stamp, sequence=-1) for item in recording.applied]
    found = loop_figures(recording, TimeSpan(100.0, 110.0), [TimeSpan(101.0, 105.0)], DT)
    missed = next(figure for figure in found if figure.name == "loop.missed_actions")
    assert (missed.value, missed.n) == (0, 0)


def test_a_late_driver_tick_that_was_made_up_for_is_not_missed():
    recording = steady()
    recording.applied[100] = applied(102.015, 100)
    assert figures(recording, instructions=[TimeSpan(101.0, 105.0)])["loop.missed_actions"] == 0


def test_plan_times_are_those_of_ticks_that_planned():
    recording = steady()
    for index in range(250):
        recording.stats[index] = stats(index, 100.0 + DT * index, plan=0.01, iterations=0)
    assert figures(recording)["plan.p50_ms"] == pytest.approx(3.0)


@pytest.mark.parametrize("missing, words", [("stats", "the fast loop"), ("applied", "the driver")])
def test_silence_is_an_error_and_not_a_perfect_score(missing, words):
    recording = steady()
    getattr(recording, missing).clear()
    with pytest.raises(ValueError, match=words):
        figures(recording)


def test_the_rate_is_held_only_if_both_loops_hold_it():
    recording = steady()
    span = TimeSpan(100.0, 110.0)
    assert held_rate(loop_figures(recording, span, [], DT), 49.5)
    del recording.applied[::50]
    assert not held_rate(loop_figures(recording, span, [], DT), 49.5)


def test_between_is_inclusive_and_keeps_the_order():
    items = [stats(i, float(i)) for i in range(10)]
    assert [item.tick for item in between(items, 2.0, 5.0)] == [2, 3, 4, 5]
    assert between(items, 20.0, 30.0) == []

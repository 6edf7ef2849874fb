"""Absolute deadlines: no drift, no burst after a stall, no beat lost to a late one."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.realtime import (
    Beat,
    LatenessStats,
    Mailbox,
    OverrunWatch,
    ScaledClock,
    Ticker,
)
from wm_vla_ros.safety.pace import APART, Pace


def test_deadlines_do_not_drift_with_the_work_in_between():
    clock = FakeClock(5.0)
    ticker = Ticker(clock, 0.02)
    for index in range(100):
        tick = ticker.wait()
        assert tick.index == index
        assert tick.deadline == pytest.approx(5.0 + 0.02 * (index + 1))
        assert tick.lateness == pytest.approx(0.0)
        clock.advance(0.013)


def test_a_late_tick_says_how_late():
    clock = FakeClock()
    ticker = Ticker(clock, 0.02)
    ticker.wait()
    clock.advance(0.025)
    tick = ticker.wait()
    assert tick.lateness == pytest.approx(0.005)
    assert tick.missed == 0


def test_a_stall_is_skipped_and_counted_and_not_caught_up():
    """After 5 s of SIGSTOP a loop that catches up would plan 250 times in a row."""
    clock = FakeClock()
    ticker = Ticker(clock, 0.02)
    ticker.wait()
    clock.advance(5.005)
    stalled = ticker.wait()
    assert stalled.missed == 249
    assert stalled.lateness < 0.02
    after = ticker.wait()
    assert after.missed == 0
    assert after.index == stalled.index + 1
    assert after.deadline == pytest.approx(stalled.deadline + 0.02)


@pytest.mark.parametrize("reference", [0.004, 0.013, 100.004, -3.0])
def test_aligned_deadlines_meet_the_reference_on_the_grid(reference):
    clock = FakeClock()
    ticker = Ticker(clock, 0.02)
    ticker.wait()
    ticker.align(reference, 0.001)
    tick = ticker.wait()
    off = (tick.deadline - reference) / 0.02
    assert off == pytest.approx(round(off), abs=1e-6)
    assert 0.01 - 1e-9 <= tick.deadline - 0.02 <= 0.03 + 1e-9


def test_alignment_within_the_tolerance_changes_nothing():
    ticker = Ticker(FakeClock(), 0.02)
    first = ticker.wait()
    ticker.align(first.deadline + 0.0009, 0.001)
    assert ticker.wait().deadline == pytest.approx(first.deadline + 0.02)


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan")])
def test_a_period_must_be_positive(period):
    with pytest.raises(ValueError, match="period"):
        Ticker(FakeClock(), period)


@given(st.lists(st.floats(0.0, 0.0199), min_size=1, max_size=200))
def test_a_tick_that_is_late_by_less_than_its_period_costs_none(lateness: list[float]) -> None:
    """The driver's loop: two steps to a tick, and the pace of writes that may refuse one."""
    clock, dt = FakeClock(), 0.02
    ticker, beat, pace = Ticker(clock, dt / 2), Beat(2, APART * dt), Pace(dt)
    late, written = iter(lateness), []
    while clock.now() < (len(lateness) + 2) * dt:
        step = ticker.wait()
        if len(written) < len(lateness) and step.index % 2 == 0:
            clock.advance(next(late, 0.0))
        if beat.due(step.index, clock.now()):
            assert pace.take(clock.now())
            written.append(clock.now())
    assert len(written) == pytest.approx(len(lateness) + 2, abs=1)
    assert all(after - before >= APART * dt for before, after in pairwise(written))


def test_a_beat_goes_on_from_its_grid_when_ticks_were_left_out() -> None:
    beat = Beat(2, 0.009)
    steps = [(0, 0.0), (1, 0.01), (5, 0.05), (6, 0.06), (7, 0.07), (8, 0.08)]
    assert [beat.due(index, now) for index, now in steps] == [True, False, True, True, False, True]


def test_a_mailbox_does_the_work_in_the_loops_thread():
    mailbox, answers = Mailbox(), []
    mailbox.open()
    asker = threading.Thread(
        target=lambda: answers.append(mailbox.ask(lambda: threading.current_thread().name))
    )
    asker.start()
    while not answers:
        mailbox.serve()
    asker.join()
    assert answers == [threading.current_thread().name]


def test_a_mailbox_passes_a_refusal_on_and_stays_usable():
    mailbox, told = Mailbox(), []

    def refuse() -> str:
        raise ValueError("latched")

    def ask() -> None:
        with pytest.raises(ValueError, match="latched"):
            mailbox.ask(refuse)
        told.append(mailbox.ask(lambda: "done"))

    mailbox.open()
    asker = threading.Thread(target=ask)
    asker.start()
    while not told:
        mailbox.serve()
    asker.join()
    assert told == ["done"]


def test_a_closed_mailbox_refuses_at_once():
    with pytest.raises(ValueError, match="not active"):
        Mailbox().ask(lambda: "never")


def test_closing_a_mailbox_tells_whoever_still_waits():
    mailbox, told = Mailbox(), []

    def ask() -> None:
        with pytest.raises(ValueError, match="not active"):
            mailbox.ask(lambda: "never", timeout=30.0)
        told.append(True)

    mailbox.open()
    asker = threading.Thread(target=ask)
    asker.start()
    while not told:
        mailbox.close()
    asker.join()


def test_nobody_serving_is_a_timeout_and_not_a_hang():
    mailbox = Mailbox()
    mailbox.open()
    with pytest.raises(TimeoutError):
        mailbox.ask(lambda: "never", timeout=0.01)


@pytest.mark.parametrize("speed", [0.5, 4.0])
def test_a_scaled_clock_passes_at_its_speed_from_now_on(speed):
    inner = FakeClock(100.0)
    clock = ScaledClock(inner, speed)
    assert clock.now() == 100.0
    inner.advance(2.0)
    assert clock.now() == pytest.approx(100.0 + 2.0 * speed)
    clock.sleep_until(100.0 + 10.0 * speed)
    assert inner.now() == pytest.approx(110.0)


def test_lateness_is_summed_up_over_the_window_and_missed_ticks_over_the_life():
    stats = LatenessStats(window=100)
    assert stats.summary() == {"ticks": 0, "missed_ticks": 0}
    for index in range(300):
        stats.add(0.001 if index < 200 else index * 1e-5, 1 if index == 0 else 0)
    summary = stats.summary()
    assert (summary["ticks"], summary["missed_ticks"]) == (300, 1)
    assert summary["late_p50_ms"] == pytest.approx(2.5)
    assert summary["late_p99_ms"] == pytest.approx(2.99)


def test_lateness_of_a_young_loop_is_that_of_the_ticks_it_had():
    """A ring that was made full of zeros must not count them as ticks on time."""
    stats = LatenessStats(window=100)
    for _ in range(3):
        stats.add(0.004, 0)
    assert stats.summary()["late_p50_ms"] == pytest.approx(4.0)


def run_cycles(watch, clock, ticker, durations) -> list[tuple[float, str]]:
    """A loop on a clock that is told how long each cycle takes; what was said, and when."""
    said = []
    for duration in durations:
        tick = ticker.wait()
        clock.advance(duration)
        text = watch.add(clock.now() - tick.deadline, tick.missed)
        if text is not None:
            said.append((clock.now(), text))
    return said


def test_one_cycle_in_ten_that_overruns_is_told_within_a_second_with_its_p99():
    clock = FakeClock()
    watch, ticker = OverrunWatch(0.02), Ticker(clock, 0.02)
    said = run_cycles(watch, clock, ticker, [0.025 if i % 10 == 9 else 0.005 for i in range(50)])
    assert len(said) == 1
    at, text = said[0]
    assert at < 1.0
    assert text == "3 of the last 30 cycles took longer than 20.0 ms; p99 25.0 ms"
    assert watch.degraded
    assert watch.p99 == pytest.approx(0.025)


def test_a_loop_that_stays_degraded_says_so_once_a_window():
    clock = FakeClock()
    watch, ticker = OverrunWatch(0.02), Ticker(clock, 0.02)
    said = run_cycles(watch, clock, ticker, [0.025 if i % 10 == 9 else 0.005 for i in range(500)])
    assert 8 <= len(said) <= 10


def test_two_slow_cycles_in_a_second_are_no_news_and_three_are_forgotten_after_it():
    clock = FakeClock()
    watch, ticker = OverrunWatch(0.02), Ticker(clock, 0.02)
    assert run_cycles(watch, clock, ticker, [0.021 if i % 25 == 0 else 0.005 for i in range(300)]) == []
    assert len(run_cycles(watch, clock, ticker, [0.021, 0.005] * 5)) == 1
    run_cycles(watch, clock, ticker, [0.005] * 50)
    assert not watch.degraded


def test_cycles_that_were_left_out_overran():
    """A loop that stands still for a second makes no cycle that takes long."""
    watch = OverrunWatch(0.02)
    assert watch.add(0.005) is None
    assert "3 of the last 5 cycles" in watch.add(0.005, missed=3)


def test_a_watch_without_cycles_has_nothing_to_say():
    watch = OverrunWatch(0.02)
    assert (watch.p99, watch.degraded) == (0.0, False)

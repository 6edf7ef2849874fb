"""Absolute deadlines: no drift, no burst after a stall; and the real-time request that may be refused."""

from __future__ import annotations

import os

import pytest

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.realtime import Ticker, request_fifo


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


def test_a_refused_real_time_request_is_one_warning_with_the_cure(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    said = []
    assert not request_fifo(20, said.append)
    assert len(said) == 1
    assert "setcap" in said[0]


def test_priority_zero_asks_for_nothing(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler")
    said = []
    assert not request_fifo(0, said.append)
    assert said == []

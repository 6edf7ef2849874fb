"""Injected time."""

from __future__ import annotations

import time

import pytest

from wm_vla_ros.clock import FakeClock, MonotonicClock


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(5.0)
    assert clock.now() == 5.0
    clock.advance(0.5)
    assert clock.now() == 5.5
    clock.sleep_until(6.0)
    assert clock.now() == 6.0
    clock.sleep_until(5.0)
    assert clock.now() == 6.0


def test_a_fake_clock_never_goes_back() -> None:
    with pytest.raises(ValueError, match=r"cannot advance by -0\.1"):
        FakeClock().advance(-0.1)


def test_the_real_clock_is_monotonic_time_and_sleeps_to_a_deadline(monkeypatch) -> None:
    slept: list[float] = []
    times = iter([100.0, 100.0, 100.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    monkeypatch.setattr(time, "sleep", slept.append)
    clock = MonotonicClock()
    assert clock.now() == 100.0
    clock.sleep_until(100.25)
    clock.sleep_until(99.0)
    assert slept == [0.25]

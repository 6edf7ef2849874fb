"""Stamps: round trips, a step of the wall clock, and a clock that follows /clock."""

from __future__ import annotations

import threading

import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from rclpy.clock import ROSClock
from rclpy.time import Time as RclpyTime

from wm_vla_ros.ros.time import NANO, RosClock, StampConverter, no_offset_ns, stamp_key, system_offset_ns

stamps = st.builds(Time, sec=st.integers(0, 2**31 - 1), nanosec=st.integers(0, NANO - 1))


@given(seconds=st.floats(0.0, 1e7), offset=st.integers(0, 2 * 10**18))
def test_seconds_survive_the_way_out_and_in(seconds, offset):
    stamps = StampConverter(lambda: offset)
    assert stamps.to_seconds(stamps.to_stamp(seconds)) == pytest.approx(seconds, abs=2e-9)


@given(stamp=stamps)
def test_without_an_offset_seconds_are_the_stamp(stamp):
    assert StampConverter(no_offset_ns).to_seconds(stamp) == pytest.approx(stamp.sec + stamp.nanosec * 1e-9)


@given(stamp=stamps)
def test_a_stamp_key_tells_stamps_apart_to_the_nanosecond(stamp):
    assert stamp_key(stamp) == stamp.sec * NANO + stamp.nanosec


def test_a_step_of_the_wall_clock_does_not_age_later_messages():
    """The wall clock is set by an hour between two messages; both still come out on the monotonic axis."""
    wall = {"offset": 1_700_000_000 * NANO}
    stamps = StampConverter(lambda: wall["offset"])
    first = stamps.to_seconds(stamps.to_stamp(100.0))
    wall["offset"] += 3600 * NANO
    second = stamps.to_seconds(stamps.to_stamp(100.02))
    assert second - first == pytest.approx(0.02, abs=1e-8)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_time_that_is_not_a_number_makes_no_stamp(seconds):
    with pytest.raises((ValueError, OverflowError)):
        StampConverter(no_offset_ns).to_stamp(seconds)


def test_the_system_offset_is_steady():
    """Two readings agree to far less than a control period, whatever else runs."""
    readings = [system_offset_ns() for _ in range(50)]
    assert max(readings) - min(readings) < 2_000_000


def _move(clock: ROSClock, seconds: float) -> None:
    clock.set_ros_time_override(RclpyTime(nanoseconds=round(seconds * NANO), clock_type=clock.clock_type))


def test_a_sleeper_on_ros_time_wakes_when_clock_reaches_its_deadline():
    source = ROSClock()
    source._set_ros_time_is_active(True)
    _move(source, 1.0)
    clock = RosClock(source)
    woke = threading.Event()
    sleeper = threading.Thread(target=lambda: (clock.sleep_until(2.0), woke.set()))
    sleeper.start()
    _move(source, 1.9)
    assert not woke.wait(0.05)
    _move(source, 2.0)
    assert woke.wait(5.0)
    sleeper.join()
    assert clock.now() == pytest.approx(2.0)


def test_closing_wakes_a_sleeper_whose_clock_stopped():
    source = ROSClock()
    source._set_ros_time_is_active(True)
    clock = RosClock(source)
    sleeper = threading.Thread(target=clock.sleep_until, args=(1e6,))
    sleeper.start()
    clock.close()
    sleeper.join(timeout=5.0)
    assert not sleeper.is_alive()

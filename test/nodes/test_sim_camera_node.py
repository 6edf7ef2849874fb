"""Frames picked out of a faster stream."""

from __future__ import annotations

import pytest

from wm_vla_ros.nodes.sim_camera_node import FrameRate
from wm_vla_ros.ros.time import NANO


def taken(rate: float, stamps) -> list[int]:
    frames = FrameRate(rate)
    return [stamp for stamp in stamps if frames.wants(stamp)]


def stream(seconds: float, start: int = 0) -> range:
    return range(start, start + round(seconds * NANO), NANO // 50)


@pytest.mark.parametrize("rate", [1.0, 15.0, 30.0, 50.0])
def test_the_rate_is_kept_on_average_though_the_stream_is_no_multiple_of_it(rate):
    assert len(taken(rate, stream(20.0))) == pytest.approx(20.0 * rate, abs=1)


def test_a_stall_is_not_made_up_for_by_a_burst():
    stamps = [*stream(1.0), *stream(1.0, start=10 * NANO)]
    assert len(taken(10.0, stamps)) <= 22


def test_a_clock_that_went_back_starts_anew():
    """After a restart of the simulation no frame came until its clock had caught up with the old one."""
    stamps = [*stream(1.0, start=100 * NANO), *stream(1.0)]
    assert len(taken(10.0, stamps)) == pytest.approx(20, abs=2)

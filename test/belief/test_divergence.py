"""The watch on divergence: start anew first, hold when that did not help, go on after calm."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.belief.divergence import DivergenceWatch

FAR, NEAR = 0.05, 0.01


@pytest.fixture
def watch() -> DivergenceWatch:
    return DivergenceWatch(bound=0.03, count=3)


def fed(watch: DivergenceWatch, *distances: float) -> list[bool]:
    return [watch.update(distance) for distance in distances]


def test_three_in_a_row_start_the_belief_anew(watch) -> None:
    assert fed(watch, FAR, FAR, FAR) == [False, False, True]
    assert not watch.holding


def test_outliers_with_good_ones_between_are_no_reason(watch) -> None:
    assert not any(fed(watch, *[FAR, FAR, NEAR] * 10))
    assert not watch.holding


def test_three_more_after_that_hold_the_arm_and_start_anew_every_time(watch) -> None:
    fed(watch, FAR, FAR, FAR)
    assert fed(watch, FAR, FAR) == [False, False]
    assert not watch.holding
    assert watch.update(FAR)
    assert watch.holding
    assert fed(watch, FAR, FAR, FAR) == [False, False, True]


def test_calm_ends_the_hold(watch) -> None:
    fed(watch, *[FAR] * 6)
    fed(watch, NEAR, NEAR)
    assert watch.holding
    watch.update(NEAR)
    assert not watch.holding
    fed(watch, FAR, FAR, FAR)
    assert not watch.holding  # after calm, one more chance


def test_a_single_good_one_after_starting_anew_is_no_calm(watch) -> None:
    fed(watch, FAR, FAR, FAR, NEAR, FAR, FAR, FAR)
    assert watch.holding


def test_a_distance_that_is_not_a_number_is_beyond_every_bound(watch) -> None:
    assert fed(watch, np.nan, np.inf, np.nan) == [False, False, True]


def test_reset_forgets(watch) -> None:
    fed(watch, *[FAR] * 6)
    watch.reset()
    assert not watch.holding
    assert fed(watch, FAR, FAR) == [False, False]

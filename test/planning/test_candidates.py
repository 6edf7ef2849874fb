"""Action sequences that the sampler starts from."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.planning.candidates import hold, shifted
from wm_vla_ros.types import Plan

SCALE, H = 0.02, 10


def rest() -> np.ndarray:
    return np.tile(np.float32([9.0, 9.0, 9.0, 0.1, 0.2, 0.3, 0.4]), (H, 1))


def test_the_given_sequence_is_not_changed() -> None:
    given_rest = rest()
    hold(given_rest)
    np.testing.assert_array_equal(given_rest, rest())


def test_holding_stands_still_with_the_gripper_as_it_is() -> None:
    actions = hold(rest())
    np.testing.assert_array_equal(actions[:, :6], 0.0)
    np.testing.assert_allclose(actions[:, 6], 0.4)


@pytest.mark.parametrize(
    "ticks, rows",
    [
        (0, [0, 1, 2, 3, 3, 3]),
        (1, [1, 2, 3, 3, 3, 3]),
        (2, [2, 3, 3, 3, 3, 3]),
        (9, [3] * 6),
        (-2, [0, 1, 2, 3, 3, 3]),
    ],
)
def test_a_plan_is_shifted_by_time_so_that_a_missed_tick_shifts_by_two(ticks: int, rows: list[int]) -> None:
    actions = np.arange(4, dtype=np.float32)[:, None] * np.ones(7, np.float32)
    plan = Plan(0.0, 1, "mpc", 5.0, 0.02, actions)
    np.testing.assert_array_equal(shifted(plan, 5.0 + ticks * 0.02, 6)[:, 0], rows)

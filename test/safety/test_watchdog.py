"""Plans are followed by time, the newest wins; what is old, replayed or from the future is not followed."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Refused
from wm_vla_ros.safety.watchdog import Freshness, PlanWatch
from wm_vla_ros.types import Plan

DT = 0.02


def plan(sequence: int, start: float, rows: int = 10, stamp: float | None = None) -> Plan:
    """A plan whose actions tell its sequence number and their row."""
    actions = np.full((rows, 7), float(sequence))
    actions[:, 1] = np.arange(rows)
    return Plan(start if stamp is None else stamp, sequence, "mpc", start, DT, actions)


def give(watch: PlanWatch, each: Plan, now: float) -> None:
    watch.check(each, now)
    watch.accept(each, each.actions, now)


def refused(watch: PlanWatch, each: Plan, now: float) -> FaultCode:
    with pytest.raises(Refused) as caught:
        watch.check(each, now)
    return caught.value.code


def in_force(watch: PlanWatch, now: float) -> tuple[int, int] | None:
    force = watch.in_force(now)
    return None if force is None else (int(force.action[0]), int(force.action[1]))


@pytest.fixture
def watch() -> PlanWatch:
    return PlanWatch(Freshness())


def test_rows_follow_the_time_and_run_out(watch: PlanWatch) -> None:
    give(watch, plan(1, start=10.0, rows=3), 10.0)
    assert in_force(watch, 9.99) is None
    assert in_force(watch, 10.0) == (1, 0)
    assert in_force(watch, 10.03) == (1, 1)
    assert in_force(watch, 10.059) == (1, 2)
    assert in_force(watch, 10.06) is None


def test_the_plan_before_goes_on_until_the_next_one_starts(watch: PlanWatch) -> None:
    give(watch, plan(1, start=10.0), 10.0)
    give(watch, plan(2, start=10.05, stamp=10.0), 10.0)
    assert in_force(watch, 10.04) == (1, 2)
    assert in_force(watch, 10.05) == (2, 0)


def test_plans_that_all_start_ahead_are_followed_each_in_its_turn(watch: PlanWatch) -> None:
    """A queue of one would push the next start ahead for ever, and follow only the oldest plan."""
    for k in range(20):
        now = 10.0 + k * DT
        give(watch, plan(k + 1, start=now + 0.05, stamp=now), now)
        if k > 4:
            assert in_force(watch, now + 0.011) == (k - 1, 0)


def test_the_newest_plan_wins_from_its_start_on(watch: PlanWatch) -> None:
    give(watch, plan(1, start=10.0), 10.0)
    give(watch, plan(2, start=10.1, stamp=10.0), 10.0)
    give(watch, plan(3, start=10.04, stamp=10.0), 10.0)
    assert in_force(watch, 10.12) == (3, 4)


def test_a_flood_of_future_starts_keeps_the_queue_short(watch: PlanWatch) -> None:
    for k in range(5000):
        give(watch, plan(k + 1, start=10.0 + k * 1e-4, stamp=10.0), 10.0)
    assert in_force(watch, 10.0) == (1, 0)
    assert len(watch._queue) < 50


@pytest.mark.parametrize(
    ("stamp", "start", "rows", "code"),
    [
        (9.49, 10.0, 10, FaultCode.STALE),
        (9.0, 10.0, 10, FaultCode.STALE),
        (10.06, 10.0, 10, FaultCode.FUTURE),
        (11.0, 10.0, 10, FaultCode.FUTURE),
        (10.0, 9.8, 10, FaultCode.EXPIRED),
        (10.0, -1e308, 10, FaultCode.EXPIRED),
        (10.0, 1e308, 10, FaultCode.FUTURE),
        (10.0, 10.0, 101, FaultCode.FUTURE),
        (-1e308, 10.0, 10, FaultCode.STALE),
    ],
)
def test_what_is_not_fresh_is_refused(
    watch: PlanWatch, stamp: float, start: float, rows: int, code: FaultCode
) -> None:
    assert refused(watch, plan(1, start, rows, stamp), 10.0) == code


def test_an_honest_late_plan_is_fresh(watch: PlanWatch) -> None:
    """A camera frame 0.3 s late and 0.1 s of planning must not stop the arm."""
    watch.check(plan(1, 10.0, stamp=9.6), 10.0)


def test_sequence_numbers_grow(watch: PlanWatch) -> None:
    give(watch, plan(5, 10.0), 10.0)
    assert refused(watch, plan(5, 10.02), 10.02) == FaultCode.REPLAY
    assert refused(watch, plan(4, 10.02), 10.02) == FaultCode.REPLAY
    give(watch, plan(9, 10.02), 10.02)


def test_a_restarted_planner_is_let_in_after_a_silence(watch: PlanWatch) -> None:
    give(watch, plan(500, 10.0), 10.0)
    assert refused(watch, plan(1, 10.1), 10.1) == FaultCode.REPLAY  # the former one may still live
    give(watch, plan(1, 10.3), 10.3)
    assert in_force(watch, 10.3) == (1, 0)
    assert refused(watch, plan(1, 10.32), 10.32) == FaultCode.REPLAY


def test_a_recorded_plan_is_never_a_new_run(watch: PlanWatch) -> None:
    recorded = plan(1, 10.0, rows=50)
    give(watch, recorded, 10.0)
    give(watch, plan(2, 10.02, rows=2), 10.02)
    assert refused(watch, recorded, 10.4) == FaultCode.REPLAY


def test_enabling_forgets_plans_and_what_was_observed_before(watch: PlanWatch) -> None:
    give(watch, plan(1, 10.0), 10.0)
    watch.clear(not_before=10.05)
    assert in_force(watch, 10.06) is None
    assert refused(watch, plan(2, 10.06, stamp=10.04), 10.06) == FaultCode.STALE
    give(watch, plan(2, 10.06), 10.06)

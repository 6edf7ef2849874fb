"""A tick without time to plan sends what is left of the plan before, and says so."""

from __future__ import annotations

import numpy as np
import pytest

HOME = np.array([0.2, 0.0, 0.1])
TARGET = HOME + np.array([0.0, 0.09, 0.0])


@pytest.fixture
def loop(make_loop, aim):
    """On its way, with 12 ms from when a tick is due."""
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(5)
    return loop


def test_a_tick_that_began_too_late_sends_the_rest_of_the_last_plan(loop) -> None:
    loop.late = 0.013
    last = loop.plans[-1]
    loop.run(1)
    plan, stats = loop.plans[-1], loop.results[-1].stats
    np.testing.assert_array_equal(plan.actions, last.actions[1:])
    assert plan.start == pytest.approx(last.start + plan.dt)
    assert plan.sequence == last.sequence + 1
    assert plan.stamp == last.stamp  # no younger than what it was made from
    assert (stats.iterations, stats.dominant_term, stats.imagined_tip.size) == (0, "", 0)
    assert loop.core.shifted_plans == 1
    assert loop.results[-1].faults == ()


def test_a_tick_with_time_left_plans_however_late(loop) -> None:
    loop.late = 0.011
    loop.run(3)
    assert [result.stats.iterations for result in loop.results[-3:]] == [2, 2, 2]
    assert loop.core.shifted_plans == 0


def test_preparation_that_takes_all_the_time_counts_too(make_core, make_loop, aim) -> None:
    """The clock passes the deadline between the tick's beginning and its first iteration."""
    looks = [0]

    def timer() -> float:
        looks[0] += 1
        return looks[0] * per_look

    per_look = 1e-6
    loop = make_loop(make_core(timer=timer))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(3)
    per_look = 0.02
    loop.run(1)
    assert loop.results[-1].stats.iterations == 0
    assert loop.core.shifted_plans == 1


def test_a_late_spell_ends_in_a_plan_and_never_in_none(loop) -> None:
    """The rest gets shorter, nothing is added to it, and when it has run out one iteration is the least."""
    loop.late = 0.5
    made = len(loop.plans[-1].actions)
    before = len(loop.results)
    loop.run(2 * made)
    lengths = [len(result.plan.actions) for result in loop.results[before:]]
    iterations = [result.stats.iterations for result in loop.results[before:]]
    assert lengths[: made - 1] == list(range(made - 1, 0, -1))
    assert iterations[: made - 1] == [0] * (made - 1)
    assert (lengths[made - 1], iterations[made - 1]) == (made, 1)
    assert loop.core.shifted_plans == iterations.count(0)


def test_the_arm_moves_on_as_the_last_plan_foretold(loop) -> None:
    foretold = loop.results[-1].stats.imagined_tip
    begin = len(loop.tips)
    loop.late = 0.5
    loop.run(len(foretold) - 1)
    np.testing.assert_allclose(np.array(loop.tips)[begin:], foretold[:-1], atol=1e-4)


def test_single_late_ticks_cost_next_to_nothing(make_loop, aim) -> None:
    times = {}
    for every in (3, 10**6):
        loop = make_loop()
        loop.run(5)
        aim(loop.core, TARGET, loop.now)
        for tick in range(60):
            loop.late = 0.5 if tick % every == every - 1 else 0.0
            loop.run(1)
        assert (loop.core.shifted_plans > 10) == (every == 3)
        times[every] = next(i for i, tip in enumerate(loop.tips) if np.linalg.norm(tip - TARGET) < 3e-3)
        np.testing.assert_allclose(loop.tips[-1], TARGET, atol=2e-3)
    assert times[3] <= times[10**6] + 3


def test_without_a_plan_to_go_on_with_it_plans(make_loop, aim) -> None:
    loop = make_loop()
    loop.late = 0.5
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(1)
    assert loop.results[-1].stats.iterations == 1
    assert loop.core.shifted_plans == 0


def test_what_forbids_a_plan_forbids_its_rest(make_core, make_loop, aim) -> None:
    """An instruction that has ended, and an image too old, are no matter of time."""
    loop = make_loop(make_core(max_observation_age=0.05))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(5)
    loop.late = 0.5
    loop.run(5, blind=True)
    assert [result.plan is None for result in loop.results[-5:]] == [False, False, True, True, True]
    loop.late = 0.0
    loop.run(3)
    loop.core.clear_goal()
    loop.late = 0.5
    loop.run(1)
    assert loop.results[-1].plan is None
    aim(loop.core, TARGET, loop.now, sequence=2, start=loop.tip)
    loop.run(1)
    assert loop.results[-1].stats.iterations == 1  # the ended instruction's plan is not gone on with

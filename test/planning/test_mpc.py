"""The fast loop's core around an exact arm: when it plans, from where, for when, and when it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.goals.buffer import GoalRefused
from wm_vla_ros.goals.path import GroundedPath
from wm_vla_ros.types import LatentGoal

DT = 0.02
HOME = np.array([0.2, 0.0, 0.1])
TARGET = HOME + np.array([0.0, 0.09, 0.0])


def codes(results) -> list[str]:
    return [fault.code for result in results for fault in result.faults]


def test_without_a_goal_there_is_no_plan_and_nothing_to_complain_of(make_loop) -> None:
    loop = make_loop()
    loop.run(10)
    assert loop.plans == []
    assert codes(loop.results) == []
    assert [result.stats.tick for result in loop.results] == list(range(1, 11))


def test_without_an_image_or_before_the_driver_runs_there_is_no_plan(make_core, make_loop, aim) -> None:
    core = make_core()
    aim(core, TARGET, 0.0)
    assert core.tick(0.01).plan is None
    loop = make_loop(core)
    loop.run(3, blind=True)
    assert loop.plans == []
    loop.run(1)
    assert len(loop.plans) == 1


def test_it_goes_along_the_path_to_its_end_and_stays(make_loop, aim) -> None:
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(60)
    assert len(loop.plans) == 60
    tips = np.array(loop.tips)
    np.testing.assert_allclose(tips[-10:], np.tile(TARGET, (10, 1)), atol=2e-3)
    assert np.abs(tips[:, [0, 2]] - HOME[[0, 2]]).max() < 3e-3
    assert tips[:, 1].max() < TARGET[1] + 2e-3


def test_free_space_is_travelled_faster_than_the_policy_showed(make_loop, aim) -> None:
    """The chunk takes 30 ticks; the path it describes is a path, not a timetable."""
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(25)
    assert np.linalg.norm(loop.tip - TARGET) < 5e-3


@pytest.mark.parametrize("delay", [0.1, 0.2])
def test_what_is_in_flight_is_part_of_where_it_plans_from(make_loop, make_core, aim, delay: float) -> None:
    """The same planner with frames taken for new ones: it does not know what it has already set off."""
    overshoot, missed = {}, {}
    for name, pretend in (("belief", False), ("stale", True)):
        loop = make_loop(make_core(), delay=delay, stamp_on_arrival=pretend)
        loop.run(15)
        aim(loop.core, TARGET, loop.now)
        loop.run(60)
        overshoot[name] = np.max(np.array(loop.tips)[:, 1]) - TARGET[1]
        missed[name] = np.linalg.norm(np.array(loop.tips)[-20:] - TARGET, axis=1).mean()
    assert overshoot["belief"] < 2e-3
    assert overshoot["stale"] > 0.02
    assert missed["stale"] > 5 * missed["belief"]


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_a_drift_that_nobody_modelled_is_compensated(make_loop, make_core, aim, delay: float) -> None:
    error = {}
    for bias in (True, False):
        loop = make_loop(make_core(bias=bias), delay=delay, drift=(0.05, 0.0, 0.0))
        loop.run(15)
        aim(loop.core, TARGET, loop.now, start=loop.tip)
        loop.run(70)
        error[bias] = np.linalg.norm(np.array(loop.tips)[-10:] - TARGET, axis=1).mean()
    assert error[True] < 2e-3
    assert error[True] < 0.6 * error[False]


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("drift", [(0.01, 0.0, 0.0), (0.0, 0.075, 0.0)])
def test_under_a_drift_the_steady_error_is_what_it_is_without_one(
    make_loop, make_core, aim, delay: float, drift
) -> None:
    """Offset-free: 2 s after the arm has arrived nothing of the drift is left, however late images are."""
    error = {}
    for speed in (drift, (0.0, 0.0, 0.0)):
        loop = make_loop(make_core(), delay=delay, drift=speed)
        loop.run(15)
        aim(loop.core, TARGET, loop.now, start=loop.tip, horizon=96)
        loop.run(140)
        error[speed] = np.linalg.norm(np.array(loop.tips)[-20:] - TARGET, axis=1).mean()
    assert abs(error[drift] - error[0.0, 0.0, 0.0]) < 2e-4


@settings(max_examples=40)
@given(phase=st.floats(0.0, 0.06), lead=st.floats(0.002, 0.03))
def test_a_plan_starts_at_the_first_driver_tick_that_it_can_still_reach(
    make_core, make_loop, aim, phase: float, lead: float
) -> None:
    """phase: how long after the driver's last report it plans; past 20 ms a report is late or lost."""
    loop = make_loop(make_core(lead=lead))
    loop.run(3)
    last = loop.now - DT
    aim(loop.core, TARGET, last)
    plan = loop.core.tick(last + phase).plan
    ticks = (plan.start - last) / DT
    assert ticks == pytest.approx(round(ticks), abs=1e-6)
    assert plan.start >= last + phase + lead - 1e-6
    assert round(ticks) == max(1, int(np.ceil((phase + lead) / DT - 1e-5)))


def test_a_plan_says_whence_and_when(make_loop, aim, spec) -> None:
    loop = make_loop(delay=0.05)
    loop.run(10)
    aim(loop.core, TARGET, loop.now)
    loop.run(10)
    for result, plan in zip(loop.results[10:], loop.plans, strict=True):
        assert (plan.source, plan.dt, plan.action_space) == ("mpc", spec.dt, "ee_delta")
        assert 0.05 <= result.stats.stamp - plan.stamp <= 0.05 + DT + 1e-9
        assert result.stats.observation_age_ms == pytest.approx((result.stats.stamp - plan.stamp) * 1e3)
        assert result.stats.imagined_tip.shape == (len(plan.actions), 3)
        assert result.stats.dominant_term in ("tip", "objects", "latent", "smoothness", "workspace")
        assert np.all(np.abs(plan.actions) <= 1.0)
    sequences = [plan.sequence for plan in loop.plans]
    assert sequences == sorted(set(sequences))


@pytest.mark.parametrize("lead", [0.006, 0.05])
def test_what_it_imagines_is_what_happens(make_loop, make_core, aim, lead: float) -> None:
    """With a long lead two or three actions are sent and not yet reported: they move the arm all the same."""
    loop = make_loop(make_core(lead=lead))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(6)
    imagined, plan = loop.results[-1].stats.imagined_tip, loop.plans[-1]
    begin = round(plan.start / DT)
    loop.core.clear_goal()
    loop.run(len(plan.actions) + 5)
    np.testing.assert_allclose(
        np.array(loop.tips)[begin + 1 : begin + 1 + len(imagined)], imagined, atol=1e-4
    )


def test_an_old_image_is_not_planned_on(make_loop, make_core, aim) -> None:
    """The camera stops: plans go on for max_observation_age, then none, and the cause is named every tick."""
    loop = make_loop(make_core(max_observation_age=0.2))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(30, blind=True)
    ages = [result.stats.observation_age_ms for result in loop.results[5:]]
    for age, result in zip(ages, loop.results[5:], strict=True):
        assert (result.plan is not None) == (age <= 200.0)
        assert codes([result]) == ([] if age <= 200.0 else ["observation_old"])
    assert max(ages) > 300.0
    loop.run(2)
    assert loop.results[-1].plan is not None


def test_a_goal_is_planned_on_until_its_time_runs_out_and_not_after(make_loop, aim) -> None:
    loop = make_loop()
    loop.run(5)
    chunk = aim(loop.core, TARGET, loop.now, horizon=30)
    loop.run(120)
    last = [result.stats.stamp for result in loop.results if result.plan is not None][-1]
    assert last == pytest.approx(chunk.stamp + 30 * DT + 1.0, abs=2 * DT)
    assert loop.results[-1].plan is None


@pytest.mark.parametrize("wrong", ["nan", "encoder", "old sequence"])
def test_a_refused_goal_leaves_the_earlier_one_in_force(make_loop, aim, linear_model, wrong: str) -> None:
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now, sequence=3)
    loop.run(5)
    embeddings = linear_model.latent(np.tile(HOME, (5, 1)))
    encoder = "other" if wrong == "encoder" else linear_model.encoder_id
    if wrong == "nan":
        embeddings[2, 2] = np.nan
    sequence = 2 if wrong == "old sequence" else 4
    with pytest.raises(GoalRefused):
        loop.core.on_goal(LatentGoal(loop.now, sequence, "", encoder, embeddings, DT, 1.0), loop.now)
    loop.run(50)
    assert loop.results[-1].plan is not None
    np.testing.assert_allclose(loop.tip, TARGET, atol=2e-3)


def test_a_newer_goal_takes_over_on_the_way(make_loop, aim) -> None:
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now, sequence=1)
    loop.run(8)
    other = HOME + np.array([0.05, 0.0, -0.04])
    aim(loop.core, other, loop.now, sequence=2, start=loop.tip)
    loop.run(50)
    np.testing.assert_allclose(loop.tip, other, atol=2e-3)


def test_a_goal_of_one_point_and_without_a_chunk_is_reached(make_loop, linear_model) -> None:
    loop = make_loop()
    loop.run(5)
    point = linear_model.latent(np.array([HOME + np.array([0.02, 0.02, 0.0])]))
    loop.core.on_goal(LatentGoal(loop.now, 1, "", linear_model.encoder_id, point, DT, 2.0), loop.now)
    loop.run(40)
    np.testing.assert_allclose(loop.tip, HOME + np.array([0.02, 0.02, 0.0]), atol=2e-3)


def test_clearing_the_goal_ends_planning(make_loop, aim) -> None:
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(5)
    loop.core.clear_goal()
    loop.run(3)
    assert [result.plan is None for result in loop.results[-4:]] == [False, True, True, True]


def test_after_a_reset_nothing_of_the_former_episode_is_left_but_the_count(make_loop, aim) -> None:
    """The driver refuses a sequence number that it has seen."""
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(10)
    loop.core.reset()
    assert loop.core.tick(loop.now).plan is None
    former = loop.plans[-1].sequence
    loop.plans.clear()
    loop.run(3)
    assert loop.plans == []
    aim(loop.core, TARGET, loop.now, sequence=1, start=loop.tip)
    loop.run(3)
    assert loop.plans[0].sequence > former


def test_the_same_seed_gives_the_same_motion(make_loop, make_core, aim) -> None:
    tips = []
    for seed in (4, 4, 5):
        loop = make_loop(make_core(seed=seed), delay=0.06)
        loop.run(5)
        aim(loop.core, TARGET, loop.now)
        loop.run(30)
        tips.append(np.array(loop.tips))
    np.testing.assert_array_equal(tips[0], tips[1])
    assert not np.array_equal(tips[0], tips[2])


def test_a_plan_is_sent_before_its_report_is_worked_out(make_loop, aim, monkeypatch) -> None:
    """Whoever waits for the plan does not wait for the imagination that only the report needs."""
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(2)
    sent = []
    model = loop.core._model
    rollout = model.rollout

    def watched(start, actions):
        if len(actions) == 1:  # of the report: one future
            assert len(sent) == 1
        return rollout(start, actions)

    monkeypatch.setattr(model, "rollout", watched)
    result = loop.core.tick(loop.now + 0.004, send=sent.append)
    assert sent == [result.plan]
    assert len(result.stats.imagined_tip) == len(result.plan.actions)


def test_who_got_stuck_under_one_instruction_enters_the_next_where_the_arm_is(
    make_loop, make_core, aim, monkeypatch
) -> None:
    """Entered by the clock the next path would lose its beginning: lifts are what would be cut."""
    entered = []
    entry = GroundedPath.entry

    def watched(self, tip, now):
        entered.append(now)
        return entry(self, tip, now)

    monkeypatch.setattr(GroundedPath, "entry", watched)
    loop = make_loop(make_core())
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(1)
    loop.core._progress._waited = 100
    loop.core.clear_goal()
    aim(loop.core, TARGET, loop.now)
    loop.run(1)
    assert len(entered) == 2

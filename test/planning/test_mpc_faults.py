"""The fast loop's core when something is wrong: belief off, costs not finite, time short, encoder slow."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.types import ActionChunk, AppliedAction, Observation

DT = 0.02
HOME = np.array([0.2, 0.0, 0.1])
TARGET = HOME + np.array([0.0, 0.09, 0.0])


def codes(results) -> list[str]:
    return [fault.code for result in results for fault in result.faults]


class Wrapped:
    """A world model of which one verb is replaced."""

    def __init__(self, model, **verbs) -> None:
        self._model = model
        self.__dict__.update(verbs)

    def __getattr__(self, name: str):
        return getattr(self._model, name)


def belief_tip(loop, linear_model) -> np.ndarray:
    """Where the core believes the tip is now."""
    return linear_model.ground(loop.core._belief.predict(loop.now))[:3]


def test_a_belief_that_stays_off_starts_anew_from_the_measurement(make_loop, make_core, linear_model) -> None:
    """Fault case 35. At this gain the belief alone would need 20 more frames to come back from a push."""
    loop = make_loop(make_core(belief_gain=0.1, bias=False))
    loop.run(10)
    loop.tip = loop.tip + np.array([0.1, 0.0, 0.0])
    loop.run(1)
    assert codes(loop.results) == []
    loop.run(1)
    assert codes(loop.results) == []
    loop.run(1)
    assert codes(loop.results) == ["divergence"]
    assert loop.results[-1].stats.divergence > 0.03
    np.testing.assert_allclose(belief_tip(loop, linear_model), loop.tip, atol=1e-6)
    loop.run(10)
    assert codes(loop.results) == ["divergence"]
    assert loop.results[-1].stats.divergence < 1e-5


def test_a_belief_that_starting_anew_does_not_mend_gives_no_plan_until_calm(
    make_loop, make_core, linear_model, aim
) -> None:
    """Fault case 35. An encoder that says something else every time is no state to plan from."""
    off, frames = np.zeros(3), [0]

    def encode(images, proprio):
        frames[0] += 1
        return linear_model.latent(proprio[12:15] + off * (-1.0) ** frames[0])

    loop = make_loop(make_core(model=Wrapped(linear_model, encode=encode)))
    loop.run(5)
    aim(loop.core, TARGET, loop.now, horizon=96)
    loop.run(5)
    off += [0.1, 0.0, 0.0]
    loop.run(5)
    assert loop.results[-1].plan is not None
    assert codes(loop.results) == ["divergence"]
    loop.run(5)
    assert [result.plan for result in loop.results[-5:]] == [None] * 5
    assert codes(loop.results[-1:]) == ["divergence"]
    off *= 0.0
    loop.run(8)
    assert loop.results[-1].plan is not None
    assert codes(loop.results[-1:]) == []


def test_what_the_world_model_doubts_counts_as_if_prior_and_observation_had_parted(
    make_loop, make_core, linear_model, aim
) -> None:
    """Fault case 35. Doubt about the tip, `divergence_doubt` times; about cubes, or below the bound, none."""
    spread = np.zeros(6)
    model = Wrapped(linear_model, spread=lambda latents: np.tile(spread, (len(latents), 1)))
    loop = make_loop(make_core(model=model, divergence_doubt=2.0))
    loop.run(5)
    aim(loop.core, TARGET, loop.now, horizon=96)
    spread[3:] = 1.0
    spread[0] = 0.014
    loop.run(6)
    assert loop.results[-1].plan is not None
    assert codes(loop.results) == []
    spread[0] = 0.016
    loop.run(2)
    assert codes(loop.results) == []
    loop.run(1)
    assert codes(loop.results) == ["divergence"]
    assert loop.results[-1].faults[0].text.startswith("the belief was 0.032 m off")
    assert loop.results[-1].stats.divergence < 0.001, "nothing has parted: it is the doubt that counts"
    loop.run(6)
    assert [result.plan for result in loop.results[-3:]] == [None] * 3
    spread[0] = 0.0
    loop.run(8)
    assert loop.results[-1].plan is not None


@pytest.mark.parametrize(
    "doubt, spread", [(0.0, lambda latents: np.ones((len(latents), 6))), (2.0, lambda latents: None)]
)
def test_doubt_that_nobody_asked_for_or_that_a_model_does_not_know_stops_nothing(
    make_loop, make_core, linear_model, aim, doubt, spread
) -> None:
    loop = make_loop(make_core(model=Wrapped(linear_model, spread=spread), divergence_doubt=doubt))
    loop.run(5)
    aim(loop.core, TARGET, loop.now, horizon=96)
    loop.run(15)
    assert loop.results[-1].plan is not None
    assert codes(loop.results) == []
    loop.run(60)
    np.testing.assert_allclose(loop.tip, TARGET, atol=3e-3)


def test_a_single_outlier_is_no_reason(make_loop, make_core, linear_model) -> None:
    loop = make_loop(make_core(belief_gain=0.1, bias=False))
    for _ in range(6):
        loop.run(4)
        true = loop.tip
        loop.tip = loop.tip + np.array([0.1, 0.0, 0.0])
        loop.run(1)
        loop.tip = true
    loop.run(4)
    assert codes(loop.results) == []
    assert max(result.stats.divergence for result in loop.results) > 0.08


def test_the_prediction_error_is_the_distance_that_the_arm_was_off(make_loop, make_core) -> None:
    loop = make_loop(make_core(bias=False))
    loop.run(10)
    assert loop.results[-1].stats.prediction_error < 1e-6
    loop.tip = loop.tip + np.array([0.012, 0.0, 0.016])
    loop.run(1)
    assert loop.results[-1].stats.prediction_error == pytest.approx(0.02, abs=1e-5)


def test_imagined_futures_that_are_all_nan_give_a_fault_and_no_plan(
    make_loop, make_core, linear_model, aim
) -> None:
    def rollout(latents, actions):
        return np.full_like(linear_model.rollout(latents, actions), np.nan if broken else 0.0) + (
            linear_model.rollout(latents, actions)
        )

    broken = False
    loop = make_loop(make_core(model=Wrapped(linear_model, rollout=rollout)))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(3)
    assert loop.results[-1].plan is not None
    broken = True
    loop.run(2)
    assert [result.plan for result in loop.results[-2:]] == [None, None]
    assert codes(loop.results) == ["no_finite_cost"] * 2
    broken = False
    loop.run(1)
    assert loop.results[-1].plan is not None


def test_some_nan_futures_are_left_out(make_loop, make_core, linear_model, aim) -> None:
    def rollout(latents, actions):
        futures = linear_model.rollout(latents, actions)
        futures[len(futures) // 2 :] = np.nan if len(futures) > 1 else 0.0
        return futures

    loop = make_loop(make_core(model=Wrapped(linear_model, rollout=rollout)))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(50)
    assert codes(loop.results) == []
    assert all(np.all(np.isfinite(plan.actions)) for plan in loop.plans)
    np.testing.assert_allclose(loop.tip, TARGET, atol=3e-3)


class TestDeadline:
    def iterations(self, make_loop, make_core, aim, seconds_per_look: float) -> set[int]:
        """Iterations of 10 ticks by a planner whose timer moves on at every look at it."""
        time = [0.0]

        def timer() -> float:
            time[0] += seconds_per_look
            return time[0]

        loop = make_loop(make_core(timer=timer))
        loop.run(5)
        aim(loop.core, TARGET, loop.now)
        loop.run(10)
        assert len(loop.plans) == 10
        return {result.stats.iterations for result in loop.results[5:]}

    def test_with_time_left_every_iteration_is_run(self, make_loop, make_core, aim) -> None:
        assert self.iterations(make_loop, make_core, aim, 1e-5) == {MpcConfig().sampler.iterations}

    def test_out_of_time_there_is_a_plan_of_what_was_done(self, make_loop, make_core, aim) -> None:
        assert self.iterations(make_loop, make_core, aim, 0.008) == {1}

    def test_the_time_taken_is_reported(self, make_core) -> None:
        times = iter([5.0, 5.003])
        assert make_core(timer=lambda: next(times)).tick(1.0).stats.plan_ms == pytest.approx(3.0)


def test_a_tick_never_waits_for_the_encoder(make_loop, make_core, linear_model, aim) -> None:
    """Encoding an image takes longer than a tick has; it runs outside the lock, in the callback's thread."""
    entered, release = threading.Event(), threading.Event()

    def encode(images, proprio):
        if slow:
            entered.set()
            assert release.wait(60)
        return linear_model.encode(images, proprio)

    slow = False
    loop = make_loop(make_core(model=Wrapped(linear_model, encode=encode)))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    slow = True
    proprio = np.zeros(18)
    proprio[12:15] = HOME
    seeing = threading.Thread(target=loop.core.on_observation, args=(Observation(loop.now, {}, proprio),))
    seeing.start()
    try:
        assert entered.wait(60)
        loop.run(2, blind=True)
        assert len(loop.plans) == 2
    finally:
        release.set()
        seeing.join(60)


def chunk(actions, sequence: int = 1, space: str = "ee_delta", dt: float = DT) -> ActionChunk:
    return ActionChunk(0.0, sequence, space, dt, actions)


@pytest.mark.parametrize(
    "bad, message",
    [
        (chunk(np.zeros((5, 6))), r"got \(5, 6\) of ee_delta"),
        (chunk(np.zeros((0, 7))), r"got \(0, 7\)"),
        (chunk(np.zeros((5, 7)), space="joint_position"), "of joint_position"),
        (chunk(np.full((5, 7), np.nan)), "action 0, column 0 is nan"),
        (chunk(np.zeros((5, 7)), dt=0.05), r"period 0\.05 s is not the robot's 0\.02 s"),
    ],
)
def test_a_bad_chunk_is_refused_where_it_arrives(make_loop, aim, bad, message) -> None:
    """Later it would have been an exception in the planning thread, which nobody restarts."""
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    with pytest.raises(ValueError, match=message):
        loop.core.on_chunk(bad)
    loop.run(5)
    assert loop.results[-1].plan is not None


def test_of_two_chunks_with_one_number_the_newer_counts(make_core, linear_model) -> None:
    """A policy that was restarted counts from the start again."""
    core = make_core()
    for value in (0.1, 0.2):
        core.on_chunk(chunk(np.full((5, 7), value), sequence=1))
    assert core._chunks[1].actions[0, 0] == pytest.approx(0.2)
    for sequence in range(2, 9):
        core.on_chunk(chunk(np.zeros((5, 7)), sequence=sequence))
    assert len(core._chunks) <= 4
    assert 8 in core._chunks


def test_a_lost_driver_report_does_not_stop_planning(make_loop, aim) -> None:
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    real = loop.core.on_applied
    dropped: list[AppliedAction] = []

    def sometimes(applied: AppliedAction) -> None:
        if applied.sequence % 5 == 0:
            dropped.append(applied)
        else:
            real(applied)

    loop.core.on_applied = sometimes
    loop.run(50)
    assert len(dropped) == 10
    assert codes(loop.results) == []
    np.testing.assert_allclose(loop.tip, TARGET, atol=3e-3)


def test_without_joint_measurements_there_is_no_plan_until_they_are_back(make_loop, aim) -> None:
    """Fault case 32. Images alone come late; what moved the arm meanwhile, nobody saw."""
    loop = make_loop()
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(3)
    measure, loop.core.on_tip = loop.core.on_tip, lambda tip, at: None
    lost = loop.now - DT  # the last measurement
    loop.run(10)
    made = [result.stats.stamp for result in loop.results[-10:] if result.plan is not None]
    assert max(made) - lost <= MpcConfig().max_joint_age
    assert len(made) >= 3
    assert set(codes(loop.results)) == {"joints_old"}
    loop.core.on_tip = measure
    loop.run(1)
    assert loop.results[-1].plan is not None


def test_chunks_of_refused_goals_do_not_push_out_the_one_in_force(
    make_loop, make_core, linear_model, aim
) -> None:
    """A slow node that only sends bad goals took the good one's chunk from the planner's candidates."""
    loop = make_loop()
    loop.run(5)
    chunk_in_force = aim(loop.core, TARGET, loop.now)
    for sequence in range(2, 12):
        loop.core.on_chunk(chunk(np.zeros((48, 7)), sequence))
    assert loop.core._chunks[1] is chunk_in_force
    assert len(loop.core._chunks) == 4

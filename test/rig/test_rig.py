"""Episodes of the whole loop under virtual time: an exact world model, and a policy that sees the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wm_vla_ros.rig.controllers import PolicyAlone, TwoLoops
from wm_vla_ros.rig.rig import LEAD_IN, Rig, RigConditions
from wm_vla_ros.tasks.task import from_instruction, task_for_seed
from wm_vla_ros.types import Plan

SEEDS = range(1000, 1005)
DT = 0.02


class Scripted:
    """Touches the cube of the instruction, from where the arm is commanded to be; notes when it was asked."""

    chunk_size, n_action_steps, dt = 48, 24, DT
    cameras = ()

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.asked = 0

    def infer(self, images, state, instruction: str) -> np.ndarray:
        self.asked += 1
        goal = self._rig.world.cubes()[from_instruction(instruction).cube] + [0.0, 0.0, 0.0145]
        at, actions = state[15:18].astype(float), np.zeros((self.chunk_size, 7), np.float32)
        for action in actions:
            above = 0.6 * (np.linalg.norm((goal - at)[:2]) - 0.012)
            step = 0.25 * (goal + np.array([0.0, 0.0, np.clip(above, 0.0, 0.05)]) - at)
            step *= min(1.0, 0.0035 / np.linalg.norm(step))
            action[:3] = step / 0.02
            at = at + step
        return actions


class Still:
    """No plans, or plans of `action`; remembers what it was told."""

    def __init__(self, action=None) -> None:
        self._action = action
        self.seen, self.applied, self.measured, self.times = [], [], [], []

    def start(self, task) -> None:
        self.__init__(self._action)

    def on_observation(self, observation, now: float) -> None:
        self.seen.append((observation, now))

    def on_applied(self, applied) -> None:
        self.applied.append(applied)

    def on_tip(self, tip, at: float) -> None:
        self.measured.append((tip, at))

    def tick(self, now: float) -> Plan | None:
        self.times.append(now)
        if self._action is None:
            return None
        start = LEAD_IN + len(self.times) * DT
        return Plan(now, len(self.times), "mpc", start, DT, np.tile(np.float32(self._action), (5, 1)))


def run(rig, controller, conditions: RigConditions, seeds=SEEDS) -> list:
    return [rig.run(seed, task_for_seed("reach", seed), controller, conditions) for seed in seeds]


@pytest.fixture(scope="module")
def drive(rig, linear_model, spec):
    """drive(name, **conditions): the episodes of one controller over SEEDS; each kind is run once."""
    done: dict[tuple, list] = {}

    def drive(name: str, **fields) -> list:
        key = (name, *sorted(fields.items()))
        if key not in done:
            conditions, policy = RigConditions(**fields), Scripted(rig)
            controller = {
                "stack": lambda: TwoLoops(policy, linear_model, spec, conditions.vla_latency),
                "alone": lambda: PolicyAlone(policy, spec, conditions.vla_latency),
            }[name]()
            done[key] = run(rig, controller, conditions)
        return done[key]

    return drive


def test_both_loops_together_reach_the_cube(drive) -> None:
    for seed, result in zip(SEEDS, drive("stack", vla_latency=0.1), strict=True):
        assert result.success, result
        assert (result.seed, result.instruction) == (seed, task_for_seed("reach", seed).instruction)
        assert 0.1 < result.time < 3.0
        assert result.distance < 0.02
        assert set(result.faults) <= {"rate_limited"}
        assert result.held_ticks * DT < 0.3  # until the first inference


def test_the_policy_alone_reaches_it_too(drive) -> None:
    assert all(result.success for result in drive("alone", vla_latency=0.1))


def test_the_latency_is_hidden(drive) -> None:
    """Inferring while moving against stopping for it, over the same seeds."""
    stack, alone = (drive(name, vla_latency=0.3) for name in ("stack", "alone"))
    assert all(result.success for result in stack)
    assert sum(r.time for r in stack) < 0.75 * sum(r.time for r in alone)
    assert max(r.held_ticks for r in stack) <= min(r.held_ticks for r in alone)


def test_a_drift_costs_the_policy_alone_more_than_the_stack(drive) -> None:
    """Its chunk is displacements: what the arm drifts meanwhile is nobody's business but the fast loop's."""
    slower = {}
    for name in ("stack", "alone"):
        calm, drifting = (drive(name, vla_latency=0.1, drift_speed=speed) for speed in (0.0, 0.05))
        slower[name] = sum(r.time for r in drifting) / sum(r.time for r in calm)
        if name == "stack":
            assert all(r.success for r in drifting)
    assert slower["stack"] < 1.2
    assert slower["alone"] > slower["stack"] + 0.2


def test_the_same_seed_is_the_same_episode(rig, linear_model, spec) -> None:
    """In another order and on another rig: nothing is carried over from the episode before."""
    conditions = RigConditions(vla_latency=0.1, drift_speed=0.03)
    other = Rig(spec, (), (96, 96))
    first = run(rig, TwoLoops(Scripted(rig), linear_model, spec, 0.1), conditions, (1003, 1001))
    again = run(other, TwoLoops(Scripted(other), linear_model, spec, 0.1), conditions, (1001, 1003))
    assert first == again[::-1]


def test_a_controller_that_never_plans_holds_until_time_runs_out(rig) -> None:
    controller = Still()
    task = replace(task_for_seed("reach", 1000), time_limit=0.5)
    result = rig.run(1000, task, controller, RigConditions())
    assert not result.success
    assert result.time == 0.5
    assert result.held_ticks == len(controller.times) == 25
    assert len(controller.applied) == 25 + round(LEAD_IN / DT)
    assert result.distance > task.tolerance
    tips = np.array([tip for tip, _ in controller.measured])
    assert np.linalg.norm(tips - tips[0], axis=1).max() < 4e-3


def test_an_inference_that_takes_longer_than_it_is_valid_moves_nothing(rig, linear_model, spec) -> None:
    """2.5 s after its look the goal has expired: refused, and the episode goes on without it."""
    task = replace(task_for_seed("reach", 1000), time_limit=3.0)
    policy = Scripted(rig)
    controller = TwoLoops(policy, linear_model, spec, 2.5)
    result = rig.run(1000, task, controller, RigConditions(vla_latency=2.5))
    assert policy.asked == 2
    assert not result.success
    assert result.held_ticks == 150


def test_frames_arrive_at_their_rate_and_late(rig, kinematics) -> None:
    controller = Still()
    task = replace(task_for_seed("reach", 1000), time_limit=1.0)
    rig.run(1000, task, controller, RigConditions(camera_period=0.04, observation_delay=0.1))
    stamps = np.array([observation.stamp for observation, _ in controller.seen])
    arrivals = np.array([now for _, now in controller.seen])
    np.testing.assert_allclose(np.diff(stamps), 0.04, atol=2.1e-3)
    assert np.all(arrivals - stamps >= 0.1 - 1e-9)
    assert np.all(arrivals - stamps < 0.1 + DT + 1e-6)
    assert len(stamps) >= 21
    for observation, _ in controller.seen[::5]:
        tip = kinematics.tip_position(observation.proprio[:6].astype(float))
        np.testing.assert_allclose(observation.proprio[12:15], tip, atol=1e-6)


def test_images_are_of_the_episode_and_of_the_size_asked_for(spec) -> None:
    rig = Rig(spec, ("front", "wrist"), (48, 64))
    controller = Still()
    rig.run(1000, replace(task_for_seed("reach", 1000), time_limit=0.2), controller, RigConditions())
    images = controller.seen[0][0].images
    assert {name: image.shape for name, image in images.items()} == {
        "front": (48, 64, 3),
        "wrist": (48, 64, 3),
    }
    same = np.abs(images["front"].astype(int) - rig.world.render("front")).mean()
    rig.world.reset(1001)
    another = np.abs(images["front"].astype(int) - rig.world.render("front")).mean()
    assert same < 1.0 < 5.0 < another  # the arm has sagged by a millimetre since
    rig.world.close()


def test_every_tick_is_watched_in_order(rig) -> None:
    times = []
    task = replace(task_for_seed("reach", 1000), time_limit=0.4)
    rig.run(1000, task, Still(), RigConditions(), lambda world, now: times.append(now))
    np.testing.assert_allclose(np.diff(times), DT, atol=1e-9)
    assert len(times) == 20


def test_the_drift_is_horizontal_of_the_given_speed_and_belongs_to_the_seed(rig) -> None:
    """Unknown to everybody: the reported action is still the plan's, here none at all."""
    moved = {}
    for seed in (1000, 1001, 1000):
        controller = Still(action=np.zeros(7))
        task = replace(task_for_seed("reach", seed), time_limit=0.6)
        rig.run(seed, task, controller, RigConditions(drift_speed=0.05))
        tips = {round(at / DT): tip for tip, at in controller.measured}
        begin = round(LEAD_IN / DT) + 7
        velocity = (tips[begin + 20] - tips[begin]) / (20 * DT)
        assert np.linalg.norm(velocity) == pytest.approx(0.05, abs=0.004)
        assert abs(velocity[2]) < 0.004
        assert np.abs(controller.applied[-1].action[:3]).max() < 0.01
        assert seed not in moved or moved[seed] == pytest.approx(velocity, abs=1e-9)
        moved[seed] = velocity
    assert np.linalg.norm(moved[1000] - moved[1001]) > 0.01


def test_the_policy_alone_looks_only_when_its_actions_have_run_out(rig, spec) -> None:
    policy = Scripted(rig)
    looks = []
    infer = policy.infer

    def note(images, state, instruction):
        looks.append(round(controller._newest.stamp, 3))
        return 0.05 * infer(images, state, instruction)  # too slow to arrive

    policy.infer = note
    controller = PolicyAlone(policy, spec, latency=0.2)
    task = replace(task_for_seed("reach", 1000), time_limit=3.0)
    result = rig.run(1000, task, controller, RigConditions(vla_latency=0.2))
    period = 0.2 + policy.n_action_steps * DT
    np.testing.assert_allclose(np.diff(looks), period, atol=0.07)
    assert result.held_ticks == pytest.approx(len(looks) * 0.2 / DT, abs=3 * len(looks))

"""The objective inside the fast loop: what each weight changes, what it asks for, which term a plan names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wm_vla_ros.planning.objective import Weights
from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.types import AppliedAction, LatentGoal, Observation

HOME = np.array([0.2, 0.0, 0.1])
TARGET = HOME + np.array([0.0, 0.09, 0.0])
OFF = {name: 0.0 for name in Weights().weights() if name.startswith("weight_")}
# Terms that ask for the arm's joints.
LEARNED = ("weight_temporal_distance", "weight_uncertainty", "weight_value")
OF_JOINTS = ("weight_joint_limits", "weight_collision")


class Jointed:
    """A core whose driver reports joints, as a real one does: the robot's at home, whatever the tip does."""

    def __init__(self, core, spec) -> None:
        self._core, self._spec = core, spec

    def on_applied(self, applied: AppliedAction) -> None:
        spec = self._spec
        self._core.on_applied(replace(applied, joint_names=spec.joint_names, joint_positions=spec.home))

    def __getattr__(self, name: str):
        return getattr(self._core, name)


@pytest.fixture
def run(make_loop, make_core, aim, spec):
    """run(ticks, **MpcConfig fields): a Loop on the way to TARGET."""

    def run(ticks: int, **settings):
        loop = make_loop(Jointed(make_core(**settings), spec))
        loop.run(5)
        aim(loop.core, TARGET, loop.now)
        loop.run(ticks)
        return loop

    return run


@pytest.mark.parametrize("name", [name for name in OFF if name not in LEARNED])
def test_a_plan_names_the_term_that_costs_most(run, name: str) -> None:
    """Alone each term dominates, whether it costs anything or not; every term is reachable by its weight."""
    loop = run(3, **OFF | {name: 1.0})
    assert {result.stats.dominant_term for result in loop.results[5:]} == {name.removeprefix("weight_")}


@pytest.mark.parametrize(
    "weights, expected",
    [
        ({"weight_effort": 2.0}, "effort"),
        ({"weight_latent_point": 100.0, "weight_tip": 0.001}, "latent_point"),
        ({"weight_joint_limits": 100.0, "joint_margin": 1.0}, "joint_limits"),
        ({"weight_collision": 100.0, "collision_margin": 0.2}, "collision"),
    ],
)
def test_among_the_usual_terms_a_new_one_may_dominate(run, weights, expected: str) -> None:
    """Half way, at speed, with joints and links so near to what they should keep off."""
    assert run(8, **weights).results[-1].stats.dominant_term == expected


def test_a_chunk_that_leads_elsewhere_dominates_what_deviates_from_it(make_loop, make_core, aim) -> None:
    loop = make_loop(make_core(weight_chunk=0.1, chunk_half_life=10.0))
    loop.run(5)
    chunk = aim(loop.core, TARGET, loop.now)
    loop.core.on_chunk(replace(chunk, actions=-chunk.actions))
    loop.run(3)
    assert loop.results[-1].stats.dominant_term == "chunk"


def test_effort_slows_the_tool(run) -> None:
    """Of 90 mm the usual weights cover 77 in the first 15 ticks."""
    way, effort = [], []
    for weight in (0.0, 2.0, 20.0):
        loop = run(15, weight_effort=weight, chunk_candidate=False)
        way.append(np.linalg.norm(loop.tip - HOME))
        effort.append(sum(np.sum(plan.actions[0, :6] ** 2) for plan in loop.plans))
    assert way == sorted(way, reverse=True)
    assert effort == sorted(effort, reverse=True)
    assert effort[0] > 1.5 * effort[2]


def test_a_goal_point_is_reached_without_the_path(run) -> None:
    loop = run(60, **OFF | {"weight_latent_point": 1.0})
    np.testing.assert_allclose(loop.tip, TARGET, atol=2e-3)


@pytest.mark.parametrize("half_life, follows", [(10.0, True), (0.02, False)])
def test_an_old_chunk_is_not_followed(make_loop, make_core, aim, half_life: float, follows: bool) -> None:
    """The chunk says stay, the path says go: a chunk of the past counts as long as its half-life says."""
    loop = make_loop(make_core(weight_chunk=100.0, chunk_half_life=half_life, chunk_candidate=False))
    loop.run(5)
    chunk = aim(loop.core, TARGET, loop.now - 0.1)
    loop.core.on_chunk(replace(chunk, actions=0.0 * chunk.actions))
    loop.run(10)
    went = np.linalg.norm(loop.tip - HOME)
    assert went < 0.01 if follows else went > 0.02


def test_the_chunks_trust_falls_when_the_belief_was_wrong(make_loop, make_core, aim) -> None:
    """The same chunk that says stay: once the tip was not where it was believed, the path wins."""
    went = {}
    for jump in (0.0, 0.02):
        settings = {"weight_chunk": 100.0, "chunk_half_life": 10.0, "chunk_half_divergence": 0.001}
        loop = make_loop(make_core(**settings, chunk_candidate=False, bias=False, belief_gain=0.05))
        loop.run(5)
        chunk = aim(loop.core, TARGET, loop.now)
        loop.core.on_chunk(replace(chunk, actions=0.0 * chunk.actions))
        loop.tip = loop.tip + np.array([jump, 0.0, 0.0])
        begin = loop.tip
        loop.run(6)
        went[jump] = np.linalg.norm(loop.tip - begin)
    assert went[0.0] < 0.003
    assert went[0.02] > 3.0 * went[0.0]


def test_without_a_chunk_its_weight_changes_nothing(make_loop, make_core, linear_model) -> None:
    tips = []
    for weight in (0.0, 50.0):
        loop = make_loop(make_core(weight_chunk=weight))
        loop.run(5)
        point = linear_model.latent(TARGET[None])
        loop.core.on_goal(LatentGoal(loop.now, 1, "", linear_model.encoder_id, point, 0.02, 2.0), loop.now)
        loop.run(20)
        tips.append(np.array(loop.tips))
    np.testing.assert_array_equal(*tips)


def test_a_term_without_weight_costs_nothing_and_asks_for_no_joints(make_core, make_loop, aim) -> None:
    """A driver may name its joints as it likes as long as nobody asks for them: the stand-in here does."""
    core = make_core(**OFF | {"weight_tip": 1.0})
    assert core._lineariser is None
    make_loop(core).run(2)


@pytest.mark.parametrize("name", OF_JOINTS)
def test_joints_that_are_not_the_robots_are_refused_by_name(make_core, make_loop, name: str) -> None:
    with pytest.raises(ValueError, match="shoulder_pan.*'joint'"):
        make_loop(make_core(**{name: 1.0})).run(1)


def test_joints_are_taken_by_name_and_the_newest_command_counts(make_core, spec) -> None:
    core = make_core(weight_joint_limits=1.0)
    order = [3, 0, 5, 1, 2, 4]
    names = tuple(spec.joint_names[i] for i in order)
    for at, joints in ((1.00, spec.home), (1.02, spec.home + 0.1), (1.01, spec.home - 0.1)):
        core.on_applied(AppliedAction(at, 1, "mpc", np.zeros(7, np.float32), names, joints[order]))
    np.testing.assert_allclose(core._arm(1.04).joints_now, spec.home + 0.1, rtol=1e-6)


def test_actions_already_sent_are_part_of_where_the_arm_will_be(make_core, spec, aim, make_loop) -> None:
    """With a lead of two ticks the arm has moved on from its last command by what was planned for them."""
    loop = make_loop(Jointed(make_core(weight_collision=1.0, lead=0.05), spec))
    loop.run(5)
    aim(loop.core, TARGET, loop.now)
    loop.run(6)
    plan, last = loop.plans[-1], (loop.tick - 1) * 0.02
    arm = loop.core._arm(plan.start)
    assert arm.ticks == round((plan.start - last) / 0.02) - 1 > 0
    sent = [loop._in_force(last + (i + 1) * 0.02 + 1e-3)[:6] for i in range(arm.ticks)]
    np.testing.assert_allclose(arm.moved, np.sum(sent, axis=0), atol=1e-6)


def test_the_collision_term_keeps_the_fingers_off_the_table(make_core, spec, linear_model) -> None:
    """The path leads below the table and no other term says no: only with this one the plan stays above."""
    low = np.array([0.2, 0.0, 0.02])
    action_map = ActionMap(spec)
    for _ in range(80):
        action = np.zeros(7)
        off = (low - action_map.tip_position(action_map.commanded)) / spec.translation_scale
        action[:3] = np.clip(off, -0.2, 0.2)
        action_map.commit(action_map.step(action, action_map.commanded))
    joints = action_map.commanded
    depth = {}
    for weight in (0.0, 50.0):
        settings = OFF | {"weight_tip": 1.0, "weight_collision": weight}
        core = make_core(**settings, bias=False)
        for tick in range(4):
            applied = AppliedAction(0.02 * tick, tick, "mpc", np.zeros(7), spec.joint_names, joints)
            core.on_applied(applied)
        proprio = np.zeros(18, np.float32)
        proprio[12:15] = low
        core.on_observation(Observation(0.06, {}, proprio))
        path = linear_model.latent(low - np.linspace(0.0, 0.04, 20)[:, None] * [0.0, 0.0, 1.0])
        core.on_goal(LatentGoal(0.06, 1, "", linear_model.encoder_id, path, 0.02, 2.0), 0.06)
        result = core.tick(0.064)
        depth[weight] = result.stats.imagined_tip[:, 2].min()
    assert depth[0.0] < 0.0
    assert depth[50.0] > 0.002

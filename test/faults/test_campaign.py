"""The fault campaign passes on the real gate, and fails as soon as any part of the gate does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from wm_vla_ros.belief.divergence import DivergenceWatch
from wm_vla_ros.cli import app
from wm_vla_ros.drivers.base import DriverConfig
from wm_vla_ros.drivers.mock import MockSpec
from wm_vla_ros.faults import campaign
from wm_vla_ros.faults.campaign import GATE_CASE, parse_cases, run_pure
from wm_vla_ros.faults.cases import BELIEF_CASES, CASES, MOTION_CASES, row
from wm_vla_ros.faults.driver_rig import DriverRig, mock_world
from wm_vla_ros.faults.gate_case import gate_under_fire
from wm_vla_ros.goals.buffer import GoalBuffer, GoalRefused
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.planning.samplers import Sampler
from wm_vla_ros.realtime import OverrunWatch
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.safety import gate, plan_check
from wm_vla_ros.safety.arbiter import Arbiter
from wm_vla_ros.safety.estop import EStop
from wm_vla_ros.safety.faults import FaultReporter
from wm_vla_ros.safety.hold import Hold
from wm_vla_ros.safety.limits import JointLimits
from wm_vla_ros.safety.pace import Pace
from wm_vla_ros.safety.watchdog import PlanWatch
from wm_vla_ros.sensing.joints import JointStream
from wm_vla_ros.types import ActionChunk, LatentGoal, Plan, RobotState

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("number", sorted((*CASES, *BELIEF_CASES)))
def test_case_passes(number: int) -> None:
    result = next(run_pure((number,), runs=3, robot="so101"))
    assert result.examples == ()
    assert result.passed
    assert result.runs == 3


@pytest.mark.parametrize("number", MOTION_CASES)
def test_motion_case_passes_on_the_robots_kinematics(number: int) -> None:
    mock, real = run_pure((number,), runs=1, robot="so101")
    assert (mock.where, real.where) == ("mock", "so101")
    assert real.examples == ()


def test_gate_case_passes() -> None:
    result = next(run_pure((GATE_CASE,), runs=1, robot="so101", gate_actions=20_000))
    assert result.examples == ()
    assert result.runs == 20_000


# Each breaks one part of the safety logic; the cases beside it must notice.
def unchecked_plans(patch: Patch) -> None:
    def pass_on(plan: Plan, limits: JointLimits) -> np.ndarray:
        actions = np.zeros((len(plan.actions), 7), np.float32)
        columns = min(7, plan.actions.shape[1])
        actions[:, :columns] = np.where(np.isfinite(plan.actions), plan.actions, 0.0)[:, :columns]
        return actions

    patch.setattr("wm_vla_ros.drivers.base.executable_actions", pass_on)


def names_ignored(patch: Patch) -> None:
    patch.setattr(plan_check, "column_order", lambda given, own: list(range(len(own))))


def no_braking_distance(patch: Patch) -> None:
    patch.setattr(gate, "greatest_step", lambda room, change: room)


def no_acceleration_limit(patch: Patch) -> None:
    real = JointLimits.of
    patch.setattr(JointLimits, "of", lambda spec: replace(real(spec), step_change=np.full(6, 1.0)))


def no_velocity_limit(patch: Patch) -> None:
    real = JointLimits.of
    patch.setattr(JointLimits, "of", lambda spec: replace(real(spec), step=np.full(6, 10.0)))


def no_margin(patch: Patch) -> None:
    real = JointLimits.of
    patch.setattr(JointLimits, "of", lambda spec: replace(real(spec), lower=real(spec).lower - 0.02))


def nothing_is_old(patch: Patch) -> None:
    patch.setattr(PlanWatch, "check", lambda self, plan, now: None)


def last_action_for_ever(patch: Patch) -> None:
    patch.setattr(
        Plan,
        "index_at",
        lambda self, now: min(len(self.actions) - 1, max(0, int((now - self.start) / self.dt))),
    )


def one_action_per_plan(patch: Patch) -> None:
    real = Plan.index_at
    patch.setattr(Plan, "index_at", lambda self, now: row if (row := real(self, now)) in (0, 1) else None)


def anybody_commands(patch: Patch) -> None:
    patch.setattr(Arbiter, "check", lambda self, source, writer, now: None)


def no_latch(patch: Patch) -> None:
    patch.setattr(EStop, "latched", False)


def reset_by_release(patch: Patch) -> None:
    real = EStop.set_input

    def set_input(self: EStop, source: str, pressed: bool) -> None:
        real(self, source, pressed)
        if not pressed:
            self.reset()

    patch.setattr(EStop, "set_input", set_input)


def forgetful_latch(patch: Patch) -> None:
    patch.setattr(EStop, "_store", lambda self: None)


def no_faults(patch: Patch) -> None:
    patch.setattr(FaultReporter, "report", lambda self, *args: None)


def late_faults(patch: Patch) -> None:
    patch.setattr(FaultReporter, "flush", lambda self, now: None)


def hold_jumps(patch: Patch) -> None:
    patch.setattr(Hold, "step", lambda self, measured, now: np.array(measured) + 0.05)


def cached_wall_clock(patch: Patch) -> None:
    real = StampConverter.__init__

    def init(self: StampConverter, offset_ns: Callable[[], int]) -> None:
        read_once = offset_ns()
        real(self, lambda: read_once)

    patch.setattr(StampConverter, "__init__", init)


def no_pose_sync(patch: Patch) -> None:
    real = gate.Gate.sync

    def sync(self: gate.Gate, measured: np.ndarray, now: float) -> None:
        if self._position is None:
            real(self, measured, now)

    patch.setattr(gate.Gate, "sync", sync)


def order_ignored(patch: Patch) -> None:
    patch.setattr(JointStream, "take", lambda self, state: (state, ()))


def jumps_ignored(patch: Patch) -> None:
    patch.setattr("wm_vla_ros.drivers.base.jumped", lambda before, after, limit: np.zeros(6, bool))


def divergence_ignored(patch: Patch) -> None:
    patch.setattr(DivergenceWatch, "update", lambda self, divergence: False)


def never_holds(patch: Patch) -> None:
    patch.setattr(DivergenceWatch, "holding", False)


def nan_to_zero(patch: Patch) -> None:
    real = Sampler.solve

    def solve(self: Sampler, candidates, cost, *arguments, **named):
        return real(
            self, candidates, lambda a: np.where(np.isfinite(c := cost(a)), c, 0.0), *arguments, **named
        )

    patch.setattr(Sampler, "solve", solve)


def overruns_ignored(patch: Patch) -> None:
    patch.setattr(OverrunWatch, "add", lambda self, took, missed: None)


def always_degraded(patch: Patch) -> None:
    real = OverrunWatch.__init__
    patch.setattr(OverrunWatch, "__init__", lambda self, period: real(self, period, share=0.0))


def goals_for_ever(patch: Patch) -> None:
    patch.setattr(GoalBuffer, "current", lambda self, now: self._goal)


def any_goal(patch: Patch) -> None:
    patch.setattr(GoalBuffer, "offer", lambda self, goal, now: setattr(self, "_goal", goal))


def dimensions_made_to_fit(patch: Patch) -> None:
    real = MpcCore.on_goal

    def on_goal(self: MpcCore, goal: LatentGoal, now: float) -> None:
        embeddings = np.zeros((len(goal.embeddings), self._model.latent_dim))
        columns = min(embeddings.shape[1], goal.embeddings.shape[1])
        embeddings[:, :columns] = goal.embeddings[:, :columns]
        real(self, replace(goal, embeddings=embeddings), now)

    patch.setattr(MpcCore, "on_goal", on_goal)


def any_encoder(patch: Patch) -> None:
    real = GoalBuffer.offer

    def offer(self: GoalBuffer, goal: LatentGoal, now: float) -> None:
        real(self, replace(goal, encoder_id=self._encoder_id), now)

    patch.setattr(GoalBuffer, "offer", offer)


def last_goal_wins(patch: Patch) -> None:
    real = GoalBuffer.offer

    def offer(self: GoalBuffer, goal: LatentGoal, now: float) -> None:
        before, self._goal = self._goal, None
        try:
            real(self, goal, now)
        except GoalRefused:
            self._goal = before
            raise

    patch.setattr(GoalBuffer, "offer", offer)


def a_refused_goal_ends_the_one_before(patch: Patch) -> None:
    real = GoalBuffer.offer

    def offer(self: GoalBuffer, goal: LatentGoal, now: float) -> None:
        try:
            real(self, goal, now)
        except GoalRefused:
            self._goal = None
            raise

    patch.setattr(GoalBuffer, "offer", offer)


def newest_chunks_only(patch: Patch) -> None:
    def on_chunk(self: MpcCore, chunk: ActionChunk) -> None:
        self._chunks = dict([(chunk.sequence, chunk), *self._chunks.items()][:4])

    patch.setattr(MpcCore, "on_chunk", on_chunk)


def plans_on_old_joints(patch: Patch) -> None:
    patch.setattr("wm_vla_ros.faults.belief_rig.MpcConfig", lambda: MpcConfig(max_joint_age=float("inf")))


def moves_on_old_measurements(patch: Patch) -> None:
    """By one tick: 120 ms after the last measurement the arm still moved."""
    patch.setattr("wm_vla_ros.drivers.base.DriverConfig", lambda: DriverConfig(measurement_age=0.1))


def missing_joints_are_zero(patch: Patch) -> None:
    def in_order(state: RobotState, spec: RobotSpec) -> RobotState:
        known = dict(zip(state.names, state.position, strict=True))
        position = np.array([known.get(name, 0.0) for name in spec.joint_names])
        return RobotState(state.stamp, spec.joint_names, position, np.zeros(len(position)))

    patch.setattr("wm_vla_ros.sensing.joints.in_order", in_order)


def missing_joints_have_no_name(patch: Patch) -> None:
    def in_order(state: RobotState, spec: RobotSpec) -> RobotState:
        if set(state.names) != set(spec.joint_names):
            raise ValueError("a joint is missing")
        return state

    patch.setattr("wm_vla_ros.sensing.joints.in_order", in_order)


@pytest.mark.parametrize(
    "broken, numbers",
    [
        (unchecked_plans, (1, 2, 3, 4, 5, 6, 9)),
        (names_ignored, (4, 5)),
        (no_braking_distance, (6, GATE_CASE)),
        (no_acceleration_limit, (7, 8, GATE_CASE)),
        (no_velocity_limit, (7, GATE_CASE)),
        (no_margin, (6, GATE_CASE)),
        (nothing_is_old, (10, 11, 12, 14, 43)),
        (last_action_for_ever, (13, 14)),
        (one_action_per_plan, (15,)),
        (anybody_commands, (38,)),
        (no_latch, (41, 42, 44)),
        (reset_by_release, (42,)),
        (forgetful_latch, (44,)),
        (no_faults, (1, 6, 13, 38, 41)),
        (late_faults, (3, 10, 12)),
        (hold_jumps, (1, 13, 14)),
        (cached_wall_clock, (36,)),
        (no_pose_sync, (43,)),
        (order_ignored, (31,)),
        (jumps_ignored, (33,)),
        (divergence_ignored, (35,)),
        (never_holds, (35,)),
        (nan_to_zero, (17,)),
        (overruns_ignored, (16,)),
        (always_degraded, (16,)),
        (goals_for_ever, (19, 20, 21, 22)),
        # Without the buffer's check infinite goals come through, and numpy says so on their way to the plan.
        pytest.param(
            *(any_goal, (20, 22, 23, 24)),
            marks=pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
        ),
        (dimensions_made_to_fit, (21,)),
        (any_encoder, (23,)),
        (last_goal_wins, (24,)),
        (a_refused_goal_ends_the_one_before, (20, 21, 22, 23, 24)),
        (newest_chunks_only, (21, 22)),
        (plans_on_old_joints, (32, 34)),
        (moves_on_old_measurements, (32,)),
        (missing_joints_are_zero, (34,)),
        (missing_joints_have_no_name, (34,)),
    ],
)
def test_a_broken_part_is_noticed(
    broken: Callable[[Patch], None], numbers: tuple[int, ...], monkeypatch: Patch
) -> None:
    broken(monkeypatch)
    for number in numbers:
        result = next(run_pure((number,), runs=6, robot="so101", gate_actions=3000))
        assert not result.passed, f"case {number} passes with {broken.__name__}"


def test_a_burst_of_writes_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Pace, "take", lambda self, now: True)
    rig = DriverRig(mock_world(), seed=0)
    rig.warm_up()
    for _ in range(3):
        rig.core.tick()
    rig.finish()
    assert any("burst" in text for text in rig.violations)


def test_gate_under_fire_judges_every_block() -> None:
    """The first write of a block follows the last of the block before."""
    assert gate_under_fire(MockSpec(), 45_000, seed=3) == []


def test_case_numbers_are_parsed() -> None:
    assert parse_cases("1-3,36, 41-42,2") == (1, 2, 3, 36, 41, 42)
    for bad in ("", "x", "1-", "18", "1-19", "27", "3-1", "0", "-1", "1..3"):
        with pytest.raises(ValueError, match="valid cases: 1-17, 19-26, 31-36, 38, 41-44, 78"):
            parse_cases(bad)


def test_a_case_that_is_not_run_here_says_why() -> None:
    with pytest.raises(ValueError, match="case 18: .* needs a GPU"):
        parse_cases("18")


def test_a_case_of_the_running_stack_is_not_passed_by_running_nothing() -> None:
    outcome = CliRunner().invoke(app, ["faults", "--cases", "1,25", "--graph-runs", "0"])
    assert outcome.exit_code != 0
    assert "--graph-runs must be at least 1" in str(outcome.exception) + outcome.output


def test_every_case_says_what_it_injects_and_expects() -> None:
    for number, case in (*CASES.items(), *BELIEF_CASES.items()):
        inject, expected = row(case)
        assert inject, number
        assert expected, number


def test_command_prints_one_object(monkeypatch: Patch) -> None:
    outcome = CliRunner().invoke(app, ["faults", "--cases", "1,41", "--runs", "2", "--json"])
    assert outcome.exit_code == 0, outcome.output
    printed = json.loads(outcome.stdout)
    figures = {figure["name"]: figure for figure in printed["figures"]}
    assert figures["faults.violations"]["value"] == 0
    assert (figures["faults.cases_passed"]["value"], figures["faults.cases_passed"]["n"]) == (2, 2)
    assert 0 < figures["faults.hold_max_ms"]["value"] <= 100
    assert [case["case"] for case in printed["conditions"]["cases"]] == [1, 41]


def test_command_fails_when_a_case_does(monkeypatch: Patch) -> None:
    anybody_commands(monkeypatch)
    outcome = CliRunner().invoke(app, ["faults", "--cases", "38", "--runs", "4"])
    assert outcome.exit_code == 1
    assert "NO" in outcome.output
    assert campaign.VALID_CASES[-1] == GATE_CASE

"""The driver core: plans in, judged targets out, on a fake clock."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.base import DriverConfig, DriverCore, DriverState
from wm_vla_ros.drivers.mock import (
    READ_NAN,
    READ_OLD,
    READ_RAISES,
    WRITE_RAISES,
    MockActionMap,
    MockBackend,
    MockSpec,
)
from wm_vla_ros.faults.invariants import InvariantProbe
from wm_vla_ros.types import JOINT_POSITION, AppliedAction, Fault, Plan, RobotState, Severity

SPEC = MockSpec()
DT = SPEC.dt


class Stage:
    """A core with everything around it in reach."""

    def __init__(self, config: DriverConfig | None = None, enable: bool = True, **kwargs: object) -> None:
        self.clock = FakeClock(50.0)
        self.arm = MockBackend(SPEC, self.clock, SPEC.home)
        self.probe = InvariantProbe(self.arm, SPEC, self.clock)
        self.faults: list[Fault] = []
        self.applied: list[AppliedAction] = []
        self.map = MockActionMap(SPEC)
        self.core = DriverCore(
            SPEC,
            self.map,
            self.probe,
            self.clock,
            self.faults.append,
            self.applied.append,
            config=config,
            **kwargs,
        )
        self.sequence = 0
        if enable:
            self.core.enable()

    @property
    def targets(self) -> list[np.ndarray]:
        return self.probe.log.targets

    @property
    def codes(self) -> list[str]:
        return [fault.code for fault in self.faults]

    def plan(self, actions: np.ndarray | None = None, **changes: object) -> Plan:
        self.sequence += 1
        now = self.clock.now()
        if actions is None:
            actions = np.tile(np.array([0.1, -0.1, 0, 0, 0, 0, 0.15], np.float32), (10, 1))
        plan = Plan(now, self.sequence, "mpc", now, DT, actions)
        return replace(plan, **changes)

    def joint_plan(self, target: np.ndarray) -> Plan:
        return self.plan(np.tile(target, (10, 1)), action_space=JOINT_POSITION, action_names=SPEC.joint_names)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.core.tick()
            self.clock.advance(DT)

    def reach(self, target: np.ndarray, ticks: int = 80) -> None:
        for _ in range(ticks):
            self.core.accept(self.joint_plan(target))
            self.tick()


def at(value: float) -> np.ndarray:
    target = SPEC.home.copy()
    target[0] = value
    return target


def test_writes_nothing_before_it_is_enabled() -> None:
    stage = Stage(enable=False)
    stage.core.accept(stage.plan())
    stage.tick(5)
    assert stage.core.state == DriverState.DISABLED
    assert stage.targets == []
    assert stage.codes == ["disabled"]


def test_first_write_is_the_measured_pose_and_no_fault_is_made_of_waiting() -> None:
    stage = Stage()
    stage.tick(3)
    assert stage.core.state == DriverState.HOLD
    assert [target.tolist() for target in stage.targets] == [SPEC.home.tolist()] * 3
    assert stage.faults == []


def test_follows_a_plan_row_by_row_and_reports_what_it_did() -> None:
    stage = Stage()
    plan = stage.plan()
    stage.core.accept(plan)
    for row in range(10):
        report = stage.core.tick()
        assert (report.state, report.row) == (DriverState.ACTIVE, row)
        stage.clock.advance(DT)
    assert stage.faults == []
    assert len(stage.applied) == 10
    for applied in stage.applied:
        assert applied.action[:5] == pytest.approx(plan.actions[0, :5], abs=1e-5)
        assert (applied.sequence, applied.source, applied.changes) == (plan.sequence, "mpc", ())
        assert applied.joint_names == SPEC.joint_names
    assert stage.applied[-1].joint_positions.tolist() == stage.targets[-1].tolist()


@pytest.mark.parametrize("jitter", [-0.4, -0.01, 0.01, 0.4])
def test_a_plan_that_starts_on_a_tick_is_followed_from_it_whatever_the_jitter(jitter: float) -> None:
    """Ticks a microsecond before a row's beginning used to repeat the row before."""
    stage = Stage()
    stage.core.accept(stage.plan(start=stage.clock.now() - jitter * DT))
    rows = []
    for _ in range(10):
        rows.append(stage.core.tick().row)
        stage.clock.advance(DT)
    assert rows == list(range(10))


def test_holds_in_the_tick_after_the_last_action_and_says_so_once() -> None:
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(40)
    assert [applied.changes for applied in stage.applied[9:12]] == [(), ("hold",), ("hold",)]
    assert stage.applied[10].stamp - stage.applied[9].stamp == pytest.approx(DT)
    assert stage.codes == ["starved"]
    assert stage.faults[0].severity == Severity.ERROR


def test_what_the_gate_changes_is_in_the_applied_action_and_in_a_fault() -> None:
    stage = Stage()
    stage.core.accept(stage.plan(np.tile(np.array([1, 0, 0, 0, 0, 0, 0.15], np.float32), (5, 1))))
    stage.tick(1)
    applied = stage.applied[-1]
    assert applied.changes == ("rate_limited",)
    assert applied.action[0] < 0.5  # what was done, not what was asked for
    assert stage.codes == ["rate_limited"]
    assert "pan" in stage.faults[0].text


def test_a_refused_plan_leaves_the_one_before_in_force() -> None:
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(3)
    stage.core.accept(stage.plan(np.full((10, 7), np.nan)))
    stage.tick(3)
    assert [applied.sequence for applied in stage.applied] == [1] * 6
    assert stage.codes == ["nonfinite"]


def test_joint_targets_are_reached_by_name() -> None:
    stage = Stage()
    target = SPEC.home + np.array([0.3, -0.2, 0.1, 0.2, -0.4, 0.5])
    stage.reach(target)
    assert stage.targets[-1] == pytest.approx(target, abs=1e-6)
    assert stage.applied[-1].action.shape == (7,)
    assert stage.probe.violations == []


def test_motion_after_a_hold_starts_from_where_the_hold_ended() -> None:
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(40)
    rest = stage.targets[-1]
    stage.core.accept(stage.plan())
    stage.tick(1)
    assert np.max(np.abs(stage.targets[-1] - rest)) <= 0.1 * MockActionMap.scale + 1e-9
    assert stage.probe.violations == []


def test_a_stalled_driver_does_not_catch_up() -> None:
    stage = Stage()
    stage.core.accept(stage.plan(np.full((50, 7), 0.1)))
    stage.tick(5)
    stage.clock.advance(0.3)
    written = len(stage.targets)
    for _ in range(15):
        stage.core.tick()
    assert len(stage.targets) == written + 1
    assert "early" in stage.codes
    assert stage.probe.violations == []


class Unreachable(MockActionMap):
    def step(self, action: np.ndarray, measured: np.ndarray) -> np.ndarray:
        raise ValueError("no way from here")


class Nowhere(MockActionMap):
    def step(self, action: np.ndarray, measured: np.ndarray) -> np.ndarray:
        return np.full(6, np.nan)


@pytest.mark.parametrize(("kind", "code"), [(Unreachable, "unreachable"), (Nowhere, "nonfinite")])
def test_holds_when_the_action_map_finds_no_target(kind: type, code: str) -> None:
    stage = Stage()
    stage.core._map = kind(SPEC)
    stage.core.accept(stage.plan())
    stage.tick(5)
    assert stage.core.state == DriverState.HOLD
    assert stage.codes[0] == code
    assert all(target.tolist() == SPEC.home.tolist() for target in stage.targets)


@pytest.mark.parametrize(
    ("sentinel", "code", "word"),
    [
        (READ_RAISES, "backend", "does not answer"),
        (READ_NAN, "measurement", "lift"),
        (READ_OLD, "measurement", "s ago"),
    ],
)
def test_holds_when_the_arm_cannot_be_measured(sentinel: float, code: str, word: str) -> None:
    stage = Stage()
    stage.reach(at(sentinel))
    assert stage.core.state == DriverState.HOLD
    assert code in stage.codes
    assert any(word in fault.text for fault in stage.faults)
    assert np.isfinite(stage.probe.log.array()).all()
    assert stage.probe.violations == []


def test_holds_within_100_ms_of_the_last_measurement_and_goes_on_with_the_next() -> None:
    """Fault case 32. At an age of 100 ms the arm still moved, and held one tick later."""
    stage = Stage()
    for _ in range(5):
        stage.core.accept(stage.plan())
        stage.tick()
    real, last = stage.arm.read, stage.arm.read()
    stage.arm.read = lambda: last  # type: ignore[method-assign]
    states = []
    for _ in range(10):
        stage.core.accept(stage.plan())
        states.append((stage.clock.now() - last.stamp, stage.core.tick().state))
        stage.clock.advance(DT)
    assert min(age for age, state in states if state == DriverState.HOLD) <= 0.1 - DT + 1e-9
    assert states[-1][1] == DriverState.HOLD
    assert stage.codes[0] == "measurement"
    stage.arm.read = real  # type: ignore[method-assign]
    stage.core.accept(stage.plan())
    stage.tick()
    assert stage.core.state == DriverState.ACTIVE
    assert stage.probe.violations == []


def test_a_measurement_without_a_joint_holds_the_arm_and_is_told_by_its_name() -> None:
    """Fault case 34."""
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(2)
    whole = stage.arm.read()
    short = RobotState(whole.stamp, SPEC.joint_names[:3], whole.position[:3], whole.velocity[:3])
    stage.arm.read = lambda: short  # type: ignore[method-assign]
    stage.tick()
    assert stage.core.state == DriverState.HOLD
    assert (stage.faults[-1].code, stage.faults[-1].text) == (
        "measurement",
        "a measurement without flex, roll, gripper",
    )


def test_a_write_that_failed_is_not_built_upon() -> None:
    """Counting failed writes as done would make the first that succeeds a jump."""
    stage = Stage()
    stage.reach(at(WRITE_RAISES), ticks=200)
    assert "backend" in stage.codes
    assert stage.targets[-1][0] > WRITE_RAISES
    stage.reach(SPEC.home)
    assert stage.targets[-1] == pytest.approx(SPEC.home, abs=1e-6)
    assert stage.probe.violations == []


def test_estop_stops_all_writes_until_reset_and_enable() -> None:
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(3)
    stage.core.estop("button", "hit")
    written = len(stage.targets)
    stage.tick(5)
    assert stage.core.state == DriverState.LATCHED
    assert (stage.faults[-1].code, stage.faults[-1].severity) == ("estop", Severity.FATAL)
    with pytest.raises(ValueError, match="button: hit"):
        stage.core.enable()
    stage.core.reset()
    assert stage.core.state == DriverState.DISABLED
    stage.tick(5)
    assert len(stage.targets) == written
    stage.core.enable()
    stage.tick(1)
    assert len(stage.targets) == written + 1
    assert stage.core.state == DriverState.HOLD


def test_estop_works_while_a_tick_is_stuck_in_the_backend() -> None:
    """A bus that blocks must not keep the button from being heard, nor write once it returns."""
    stage = Stage()
    stage.tick(1)
    inside, pressed = threading.Event(), threading.Event()

    class Stuck(MockBackend):
        def read(self) -> RobotState:
            inside.set()
            assert pressed.wait(10)
            return super().read()

    stage.core._backend = stuck = Stuck(SPEC, stage.clock, SPEC.home)
    stuck.write = lambda target: pytest.fail("wrote after the e-stop")  # type: ignore[method-assign]
    ticking = threading.Thread(target=stage.core.tick)
    ticking.start()
    assert inside.wait(10)
    stage.core.estop("button", "hit")
    pressed.set()
    ticking.join(10)
    assert not ticking.is_alive()
    assert stage.core.state == DriverState.LATCHED
    assert len(stage.applied) == 1


def test_a_button_that_is_pressed_keeps_the_latch() -> None:
    stage = Stage()
    stage.core.set_estop_input("button", True)
    with pytest.raises(ValueError, match="pressed"):
        stage.core.reset()
    assert stage.core.state == DriverState.LATCHED
    stage.core.set_estop_input("button", False)
    assert stage.core.state == DriverState.LATCHED
    stage.core.reset()
    assert stage.core.state == DriverState.DISABLED


def test_latched_from_the_start_when_told_so_or_remembered(tmp_path: Path) -> None:
    assert Stage(enable=False, latched=True).core.state == DriverState.LATCHED
    config = DriverConfig(latch_file=tmp_path / "arm.estop")
    Stage(config).core.estop("button", "hit")
    assert Stage(config, enable=False).core.state == DriverState.LATCHED


def test_a_latch_that_cannot_be_kept_is_said_and_holds_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stage = Stage(DriverConfig(latch_file=tmp_path / "file" / "arm.estop"))
    stage.core.estop("button", "hit")
    assert stage.core.state == DriverState.LATCHED
    assert set(stage.codes) == {"latch_store", "estop"}


def test_an_encoder_that_jumps_holds_the_arm_until_a_plan_of_what_is_measured_now() -> None:
    """Fault case 33. A plan made before the jump was made for an arm that stands elsewhere."""
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(3)
    before = stage.plan()
    stage.arm.push(stage.arm.read().position + np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0]))
    stage.tick(1)
    assert stage.core.state == DriverState.HOLD
    assert [fault.code for fault in stage.faults] == ["joint_jump"]
    assert "lift" in stage.faults[0].text
    stage.tick(3)
    stage.core.accept(before)
    stage.tick(1)
    assert stage.core.state == DriverState.HOLD
    assert "stale" in stage.codes
    stage.core.accept(stage.plan())
    stage.tick(1)
    assert stage.core.state == DriverState.ACTIVE
    assert stage.probe.violations == []


def test_an_arm_that_was_moved_while_disabled_has_not_jumped() -> None:
    stage = Stage()
    stage.tick(2)
    stage.core.disable()
    stage.arm.push(SPEC.home + 0.5)
    stage.core.enable()
    stage.tick(2)
    assert "joint_jump" not in stage.codes


def test_enable_twice_changes_nothing() -> None:
    """A second enable in mid-motion must not re-sync: that would be a step to the measured pose."""
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(3)
    stage.arm.push(SPEC.home)
    stage.core.enable()
    stage.tick(1)
    assert stage.core.state == DriverState.ACTIVE
    assert stage.probe.violations == []


def test_enable_refuses_an_arm_outside_its_limits_or_silent() -> None:
    stage = Stage(enable=False)
    outside = SPEC.home.copy()
    outside[1] = SPEC.upper[1] + 0.5
    stage.arm.push(outside)
    with pytest.raises(ValueError, match="lift"):
        stage.core.enable()
    stage.arm.write(at(READ_RAISES))
    with pytest.raises(ValueError, match="answer"):
        stage.core.enable()
    assert stage.core.state == DriverState.DISABLED


def test_disable_ends_writing_and_drops_the_plan() -> None:
    stage = Stage()
    stage.core.accept(stage.plan())
    stage.tick(2)
    stage.core.disable()
    written = len(stage.targets)
    stage.tick(2)
    assert len(stage.targets) == written
    stage.core.enable()
    stage.tick(1)
    assert stage.core.state == DriverState.HOLD


def test_a_plan_observed_before_the_enable_is_not_followed() -> None:
    stage = Stage(enable=False)
    before = stage.plan()
    stage.clock.advance(DT)
    stage.core.enable()
    stage.core.accept(before)
    stage.tick(1)
    assert stage.core.state == DriverState.HOLD
    assert stage.codes == ["stale"]


def test_only_the_owner_commands() -> None:
    stage = Stage(owner="teleop")
    stage.core.accept(stage.plan())
    stage.core.accept(stage.plan(source="teleop"), writer="a")
    stage.core.accept(stage.plan(source="teleop"), writer="b")
    stage.tick(2)
    assert [applied.source for applied in stage.applied] == ["teleop"] * 2
    assert [applied.sequence for applied in stage.applied] == [2] * 2
    assert set(stage.codes) == {"foreign"}


def test_a_callback_may_hand_in_the_next_plan() -> None:
    """The in-process evaluation plans inside on_applied: the lock must let the same thread in again."""
    stage = Stage()
    stage.core._on_applied = lambda applied: stage.core.accept(stage.plan())
    stage.core.accept(stage.plan())
    stage.tick(5)
    assert stage.core.state == DriverState.ACTIVE
    assert stage.faults == []


def test_a_backend_of_another_arm_is_refused() -> None:
    clock = FakeClock()
    other = replace(SPEC, joint_names=("a", "b", "c", "d", "e", "f"))
    arm = MockBackend(other, clock, SPEC.home)
    with pytest.raises(ValueError, match="the backend has joints"):
        DriverCore(SPEC, MockActionMap(SPEC), arm, clock, lambda f: None, lambda a: None)


values = st.one_of(
    st.floats(-1, 1, width=32), st.sampled_from([1.0, -1.0, 0.0, np.nan, np.inf, -np.inf, 2.0, -57.3, 1e30])
)
injections = st.tuples(
    st.sampled_from(["ee", "bang", "joints", "none", "estop"]),
    st.lists(values, min_size=7, max_size=7),
    st.sampled_from([0.0, 0.02, 0.4, 1.0, -0.04, -1.0]),  # age of the observation
    st.sampled_from([DT, DT, 0.5 * DT, 1e-4, 3.3 * DT, 0.5]),
    st.integers(1, 30),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(injections, min_size=1, max_size=10))
def test_invariants_hold_for_any_plans_at_any_times(stream: list) -> None:
    stage = Stage()
    for kind, row, age, gap, repeats in stream:
        actions = np.tile(np.array(row, np.float32), (8, 1))
        if kind == "bang":
            actions[1::2, :6] *= -1
        for _ in range(repeats):
            if kind in ("ee", "bang"):
                stage.core.accept(stage.plan(actions, stamp=stage.clock.now() - age))
            elif kind == "joints":
                stage.core.accept(stage.joint_plan(np.array(row[:6]) * SPEC.upper))
            elif kind == "estop":
                stage.core.estop("test", "drawn")
                stage.probe.latched()
            stage.core.tick()
            stage.clock.advance(gap)
        if kind == "estop":
            stage.core.reset()
            stage.core.enable()
            stage.probe.enabled()
    assert stage.probe.violations == []
    assert all(np.isfinite(applied.action).all() for applied in stage.applied)

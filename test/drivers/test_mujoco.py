"""The simulated arm behind the driver's contract, and the drift that experiments put into it."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.base import DriverCore, DriverState
from wm_vla_ros.drivers.mujoco import DriftingActionMap, MujocoBackend
from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.types import AppliedAction, Fault, Plan


@pytest.fixture(scope="module")
def world(spec) -> SimWorld:
    return SimWorld(spec)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def backend(world, clock) -> MujocoBackend:
    world.reset(1)
    return MujocoBackend(world, clock)


def test_a_reading_is_the_world_s_joints_stamped_now(spec, world, clock, backend) -> None:
    clock.advance(0.5)
    state = backend.read()
    assert state.stamp == 100.5
    assert state.names == spec.joint_names == backend.joint_names
    np.testing.assert_array_equal(state.position, world.joint_positions())
    np.testing.assert_array_equal(state.velocity, world.joint_velocities())


def test_a_written_target_is_where_the_arm_goes(spec, world, backend) -> None:
    backend.write(spec.home)
    np.testing.assert_array_equal(world.joint_targets(), spec.home)
    world.step(750)
    np.testing.assert_allclose(backend.read().position, spec.home, atol=0.02)


def test_a_bad_target_never_reaches_the_world(world, backend) -> None:
    before = world.joint_targets()
    with pytest.raises(ValueError, match="6 finite numbers"):
        backend.write(np.full(6, np.nan))
    np.testing.assert_array_equal(world.joint_targets(), before)


def test_closing_leaves_the_world_to_its_owner(world, backend) -> None:
    backend.close()
    world.step()
    assert np.all(np.isfinite(backend.read().position))


def test_a_plan_moves_the_simulated_tip(spec, world, clock, backend) -> None:
    """Driver core, gate, action map and physics together: 20 ticks of 2 mm, less the servo's lag."""
    applied: list[AppliedAction] = []
    faults: list[Fault] = []
    driver = DriverCore(spec, ActionMap(spec), backend, clock, faults.append, applied.append)
    driver.enable()
    start = world.tip()
    actions = np.zeros((20, 7), np.float32)
    actions[:, 1] = -0.1 * np.sign(start[1])
    driver.accept(Plan(clock.now(), 1, "mpc", clock.now(), spec.dt, actions))
    for _ in range(20):
        assert driver.tick().state is DriverState.ACTIVE
        world.step()
        clock.advance(spec.dt)
    assert faults == []
    np.testing.assert_allclose([a.action[:3] for a in applied], actions[:, :3], atol=1e-2)
    moved = world.tip() - start
    assert abs(moved[1]) == pytest.approx(0.040, abs=0.006)
    assert np.abs(moved[[0, 2]]).max() < 0.003


class TestDrift:
    DRIFT = np.array([0.03, -0.04, 0.0])

    def test_the_arm_creeps_and_the_report_does_not_say_so(self, spec) -> None:
        drifting = DriftingActionMap(spec, self.DRIFT)
        drifting.reset(spec.home)
        reported = np.zeros(3)
        for _ in range(25):
            target = drifting.step(np.zeros(7, np.float32), drifting.commanded)
            reported += drifting.commit(target)[:3] * spec.translation_scale
        moved = drifting.tip_position(drifting.commanded) - drifting.tip_position(spec.home)
        np.testing.assert_allclose(moved, self.DRIFT * 0.5, atol=1e-3)
        np.testing.assert_allclose(reported, 0.0, atol=1e-3)

    def test_commands_are_followed_on_top_of_it(self, spec) -> None:
        drifting = DriftingActionMap(spec, self.DRIFT)
        drifting.reset(spec.home)
        asked = np.array([0.05, 0.02, -0.05, 0.0, 0.0, 0.0, 0.0])
        done = drifting.commit(drifting.step(asked, spec.home))
        np.testing.assert_allclose(done[:3], asked[:3], atol=5e-3)
        moved = drifting.tip_position(drifting.commanded) - drifting.tip_position(spec.home)
        np.testing.assert_allclose(moved, asked[:3] * 0.02 + self.DRIFT * 0.02, atol=1e-4)

    def test_without_drift_it_is_the_action_map(self, spec) -> None:
        drifting, plain = DriftingActionMap(spec, np.zeros(3)), ActionMap(spec)
        asked = np.array([0.1, -0.1, 0.05, 0.0, 0.0, 0.0, 0.5])
        targets = []
        for action_map in (drifting, plain):
            action_map.reset(spec.home)
            targets.append(action_map.step(asked, spec.home))
        np.testing.assert_array_equal(*targets)

    def test_the_action_given_is_not_changed(self, spec) -> None:
        """The plan's own row is handed in: drift must not leak into what the planner believes it sent."""
        drifting = DriftingActionMap(spec, self.DRIFT)
        drifting.reset(spec.home)
        asked = np.zeros(7, np.float32)
        drifting.step(asked, spec.home)
        np.testing.assert_array_equal(asked, 0.0)

    @pytest.mark.parametrize("bad", [0.05, [0.05, 0.0], [np.nan, 0.0, 0.0], [0.0, np.inf, 0.0]])
    def test_a_drift_is_three_finite_numbers(self, spec, bad) -> None:
        with pytest.raises(ValueError, match="3 finite numbers in m/s"):
            DriftingActionMap(spec, bad)

"""The loops that act while demonstrations are recorded hear the arm as the nodes do: a tick later."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.rig.simulated_arm import SimulatedArm
from wm_vla_ros.rig.stack_actor import StackActor
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.tasks.task import from_instruction
from wm_vla_ros.types import Plan

TASK = from_instruction("touch the red cube")
DT = 0.02


class Loops:
    """Plans upwards from its third tick on, for ten ticks at a time, and remembers what it was told."""

    def start(self, task) -> None:
        self.task = task
        self.tips, self.applied, self.seen, self.times = [], [], [], []

    def on_tip(self, tip, at) -> None:
        self.tips.append((at, np.array(tip)))

    def on_applied(self, applied) -> None:
        self.applied.append(applied)

    def on_observation(self, observation, now) -> None:
        self.seen.append((observation.stamp, now))

    def tick(self, now: float) -> Plan | None:
        self.times.append(now)
        if len(self.times) < 3:
            return None
        actions = np.zeros((10, 7), np.float32)
        actions[:, 2] = 0.02 * len(self.times)
        start = round(now / DT + 0.5) * DT
        return Plan(now, len(self.times), "mpc", start, DT, actions)


@pytest.fixture
def arm():
    arm = SimulatedArm(load_robot("so101"), 32, 32)
    arm.reset(1_000_000, TASK)
    yield arm
    arm.world.close()


def test_what_was_executed_is_reported_before_the_next_plan(arm: SimulatedArm) -> None:
    loops = Loops()
    actor = StackActor(loops, arm, (), frame_stride=2)
    actor.restart(TASK)
    actions, executed = [], []
    for _ in range(8):
        actions.append(actor.act())
        executed.append(arm.apply(actions[-1]))
    assert loops.task == TASK
    np.testing.assert_allclose([row.stamp for row in loops.applied], np.arange(7) * DT, atol=1e-9)
    for told, true in zip(loops.applied, executed, strict=False):
        np.testing.assert_array_equal(told.action, true)
    # Every second tick has an image, which is a tick old when it is heard of.
    np.testing.assert_allclose(loops.seen, [(0.0, 0.02), (0.04, 0.06), (0.08, 0.10), (0.12, 0.14)], atol=1e-9)
    # Three ticks without a plan: the arm holds; then the newest plan's first row, every tick another.
    np.testing.assert_allclose(
        [row[2] for row in actions], [0, 0, 0, 0.06, 0.08, 0.10, 0.12, 0.14], atol=1e-6
    )


def test_a_turn_begins_with_nothing_seen(arm: SimulatedArm) -> None:
    loops = Loops()
    actor = StackActor(loops, arm, (), frame_stride=2)
    for _ in range(2):
        actor.restart(TASK)
        for _ in range(3):
            assert not actor.act().any()
            arm.apply(np.zeros(7, np.float32))
        assert len(loops.applied) == 2

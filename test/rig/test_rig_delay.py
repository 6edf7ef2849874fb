"""What the rig does to frames, and to the task's cube, under delay, jitter, loss and a target that moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wm_vla_ros.rig.rig import RigConditions
from wm_vla_ros.tasks.task import task_for_seed
from wm_vla_ros.types import Plan

DT = 0.02


class Watcher:
    """Remembers which frames came when; plans nothing."""

    def start(self, task) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_observation(self, observation, now: float) -> None:
        self.seen.append((observation.stamp, now))

    def on_applied(self, applied) -> None:
        pass

    def on_tip(self, tip, at: float) -> None:
        pass

    def tick(self, now: float) -> Plan | None:
        return None


def frames(rig, seed: int = 1000, **fields) -> list[tuple[float, float]]:
    watcher = Watcher()
    rig.run(seed, replace(task_for_seed("reach", seed), time_limit=3.0), watcher, RigConditions(**fields))
    return watcher.seen


def test_jitter_lets_frames_overtake_each_other_and_none_comes_early(rig) -> None:
    found = frames(rig, observation_delay=0.02, observation_jitter=0.1)
    stamps = [stamp for stamp, _ in found]
    assert stamps != sorted(stamps)
    assert len(set(stamps)) == len(stamps)
    ages = [now - stamp for stamp, now in found]
    assert min(ages) >= 0.02 - 1e-9
    # Handed out at the planner's phase of a tick: up to a tick after the arrival.
    assert 0.08 < max(ages) < 0.02 + 0.1 + DT + 1e-9


def test_without_jitter_frames_come_in_order_and_all(rig) -> None:
    stamps = [stamp for stamp, _ in frames(rig)]
    assert stamps == sorted(stamps)
    assert len(stamps) >= 87


def test_dropped_frames_never_come_and_the_seed_says_which(rig) -> None:
    whole, some, again, other = (
        {stamp for stamp, _ in frames(rig, seed, drop_ratio=ratio)}
        for seed, ratio in ((1000, 0.0), (1000, 0.3), (1000, 0.3), (1001, 0.3))
    )
    assert some == again != other
    assert some < whole
    assert 0.15 < 1.0 - len(some) / len(whole) < 0.45


def test_the_moving_target_moves_and_success_follows_it(rig) -> None:
    """A watcher that never moves; the tip is put where the cube is, or where it was."""
    task, ends = task_for_seed("reach", 1000), {}
    for speed in (0.0, 0.03):
        places = []
        rig.run(
            1000, replace(task, time_limit=2.0), Watcher(), RigConditions(target_speed=speed),
            lambda world, now, places=places: places.append(world.cubes()[task.cube].copy()),
        )  # fmt: skip
        ends[speed] = places[0], places[-1]
    assert np.linalg.norm(ends[0.0][1] - ends[0.0][0]) < 1e-3
    start, end = ends[0.03]
    assert 0.03 < np.linalg.norm(end - start) < 0.0605
    world = rig.world
    assert task.success(end, world.cubes(), world.pads())
    assert not task.success(start, world.cubes(), world.pads())


class Asked(Watcher):
    """Remembers what it had seen when it was first asked for a plan, and when that was."""

    def start(self, task) -> None:
        super().start(task)
        self.at_first: tuple[float, int] | None = None

    def tick(self, now: float) -> Plan | None:
        self.at_first = self.at_first or (now, len(self.seen))
        return None


@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_the_arm_has_seen_before_it_is_told(rig, delay: float) -> None:
    """Waiting for the first image is no part of what a delay costs: on an arm the camera runs already."""
    asked = Asked()
    task = replace(task_for_seed("reach", 1000), time_limit=0.5)
    result = rig.run(1000, task, asked, RigConditions(observation_delay=delay))
    assert asked.at_first is not None
    now, frames_before = asked.at_first
    assert frames_before >= 2
    assert asked.seen[frames_before - 1][0] == pytest.approx(now - delay, abs=0.06)
    assert result.time == 0.5  # counted from the instruction

"""The travelling cube: as fast as it is told, within reach, clear of the others, fixed by the seed."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.sim.layout import RADIUS_RANGE, X_RANGE, Y_RANGE
from wm_vla_ros.sim.moving_target import MovingTarget
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import CUBES, task_for_seed

SPEED = 0.03
DURATION = 6.3
TIMES = np.arange(0.0, 6.0, 0.02)


@pytest.fixture(scope="module")
def world(spec):
    world = SimWorld(spec)
    yield world
    world.close()


@pytest.mark.parametrize("seed", range(1000, 1025))
def test_every_seed_has_a_free_path_of_the_right_speed(world, seed: int) -> None:
    task = task_for_seed("reach", seed)
    world.reset(seed, task)
    path = MovingTarget(seed, task, world, SPEED, DURATION).at(TIMES)
    cubes = world.cubes()
    np.testing.assert_allclose(path[0], cubes[task.cube][:2], atol=1e-9)
    speeds = np.linalg.norm(np.diff(path, axis=0), axis=1) / 0.02
    assert speeds.max() == pytest.approx(SPEED, rel=0.02)
    assert speeds.min() > 0.9 * SPEED
    radius = np.linalg.norm(path, axis=1)
    assert path[:, 0].min() >= X_RANGE[0]
    assert path[:, 0].max() <= X_RANGE[1]
    assert np.abs(path[:, 1]).max() <= Y_RANGE[1]
    assert radius.min() >= RADIUS_RANGE[0]
    assert radius.max() <= RADIUS_RANGE[1]
    for other in set(CUBES) - {task.cube}:
        assert np.linalg.norm(path - cubes[other][:2], axis=1).min() > 0.035


def test_paths_belong_to_their_seeds(world) -> None:
    task = task_for_seed("reach", 1000)
    world.reset(1000, task)
    first, again, other = (
        MovingTarget(seed, task, world, SPEED, DURATION).at(3.0) for seed in (1000, 1000, 1001)
    )
    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first - other) > 1e-3


def test_the_cube_is_carried_and_nothing_else(world) -> None:
    task = task_for_seed("reach", 1000)
    world.reset(1000, task)
    before = world.cubes()
    target = MovingTarget(1000, task, world, SPEED, DURATION)
    target.carry(world, 1.0)
    after = world.cubes()
    np.testing.assert_allclose(after[task.cube][:2], target.at(1.0), atol=1e-9)
    assert after[task.cube][2] == pytest.approx(before[task.cube][2])
    for other in set(CUBES) - {task.cube}:
        np.testing.assert_array_equal(after[other], before[other])

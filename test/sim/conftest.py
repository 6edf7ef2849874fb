"""One world for all of a file's tests (each resets it), and the arm's action map beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.sim.world import SimWorld


@pytest.fixture(scope="module")
def world(spec):
    world = SimWorld(spec)
    yield world
    world.close()


@pytest.fixture(scope="module")
def run(spec, world) -> Callable:
    """run(act, ticks, done): drive `world` by `act(world)`, until `done()`; returns ticks taken."""
    action_map = ActionMap(spec)

    def run(
        act: Callable[[SimWorld], np.ndarray], ticks: int, done: Callable[[], bool] = lambda: False
    ) -> int:
        action_map.reset(world.joint_positions())
        for tick in range(ticks):
            target = action_map.step(act(world), world.joint_positions())
            action_map.commit(target)
            world.set_targets(target)
            world.step()
            if done():
                return tick + 1
        return ticks

    return run

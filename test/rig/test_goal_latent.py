"""The fast loop alone, told the end: what it is told, and that it goes there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wm_vla_ros.rig.goal_latent import goal_of, towards_latent
from wm_vla_ros.rig.rig import EpisodeResult, RigConditions
from wm_vla_ros.rig.towards_goal import TowardsGoal
from wm_vla_ros.tasks.task import task_for_seed

SEED = 1002


@pytest.fixture(scope="module")
def task():
    return task_for_seed("reach", SEED)


def test_the_goal_is_what_is_seen_when_an_expert_has_done_the_task(rig, linear_model, task) -> None:
    goal = goal_of(rig, linear_model, SEED, task)
    rig.world.reset(SEED, task)
    cube = rig.world.cubes()[task.cube]
    assert np.linalg.norm(linear_model.ground(goal)[:3] - cube) < task.tolerance


def told(rig, model, spec, task, latent: np.ndarray) -> EpisodeResult:
    driver = TowardsGoal(towards_latent(latent, model), model, spec)
    return rig.run(SEED, task, driver, RigConditions())


def test_told_the_end_the_fast_loop_goes_there_and_nobody_thinks(rig, linear_model, spec, task) -> None:
    goal = goal_of(rig, linear_model, SEED, task)
    assert told(rig, linear_model, spec, task, goal).success
    away = linear_model.latent(linear_model.ground(goal)[:3] + np.float32([0.0, 0.0, 0.1]))
    assert not told(rig, linear_model, spec, task, away).success


def test_a_task_that_the_expert_fails_has_no_goal(rig, linear_model, task) -> None:
    with pytest.raises(
        RuntimeError, match=f"does not manage '{task.instruction}' in the layout of seed 1002"
    ):
        goal_of(rig, linear_model, SEED, replace(task, tolerance=0.001))

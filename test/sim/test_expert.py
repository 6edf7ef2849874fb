"""The scripted expert solves its tasks, and play moves things without leaving the table."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.sim.expert import ScriptedExpert
from wm_vla_ros.sim.play import PlayPolicy
from wm_vla_ros.tasks.task import CUBES, task_for_seed


@pytest.mark.parametrize(
    "name, seeds, enough", [("reach", range(200, 220), 19), ("push", range(200, 220), 18)]
)
def test_the_expert_solves_its_task(spec, world, run, name: str, seeds, enough: int) -> None:
    solved = []
    for seed in seeds:
        task = task_for_seed(name, seed)
        world.reset(seed, task)
        limit = round(task.time_limit / spec.dt)

        def done(task=task) -> bool:
            return task.success(world.tip(), world.cubes(), world.pads())

        run(ScriptedExpert(spec, task).action, limit, done)
        solved.append(done())
    assert sum(solved) >= enough


def test_the_expert_moves_smoothly_and_slowly_enough_to_be_imitated(spec, world, run) -> None:
    task = task_for_seed("push", 3)
    world.reset(3, task)
    expert, actions = ScriptedExpert(spec, task), []

    def act(world):
        actions.append(expert.action(world))
        return actions[-1]

    run(act, 300)
    moved = np.array(actions)[:, :3] * spec.translation_scale
    assert np.linalg.norm(moved, axis=1).max() <= 0.004
    assert np.linalg.norm(np.diff(moved, axis=0), axis=1).max() <= 0.0012 + 1e-6
    np.testing.assert_array_equal(np.array(actions)[:, 3:], 0.0)


def test_the_reach_expert_leaves_the_cubes_alone(spec, world, run) -> None:
    """A demonstration of touching must not be one of pushing."""
    for seed in range(5):
        task = task_for_seed("reach", seed)
        world.reset(seed, task)
        before = world.cubes()
        run(ScriptedExpert(spec, task).action, 150)
        for name in set(CUBES) - {task.cube}:
            assert np.linalg.norm(world.cubes()[name] - before[name]) < 2e-3


@pytest.fixture(scope="module")
def play(spec, world, run):
    """Tips (n, 3) of two streams of play, and whether the arm touched a cube at that tick."""
    tips, touches = [], []
    cubes = {world.model.geom(f"{name}_cube").id for name in CUBES}
    scenery = cubes | {world.model.geom("table").id}
    for seed in range(2):
        world.reset(seed)
        policy = PlayPolicy(spec, np.random.default_rng(seed))

        def act(world, policy=policy):
            tips.append(world.tip())
            pairs = [set(map(int, contact.geom)) for contact in world.data.contact]
            touches.append(any(pair & cubes and not pair <= scenery for pair in pairs))
            return policy.action(world)

        run(act, 800)
    return np.array(tips), np.array(touches)


def test_play_keeps_within_reach(play) -> None:
    tips, _ = play
    radius = np.linalg.norm(tips[:, :2], axis=1)
    assert radius.min() > 0.10
    assert radius.max() < 0.335
    assert tips[:, 2].min() > 0.0
    assert tips[:, 2].max() < 0.16


def test_play_touches_cubes_in_at_least_five_percent_of_ticks(play) -> None:
    """A world model learns pushing from nothing else."""
    _, touches = play
    assert touches.mean() > 0.05


def test_play_uses_the_whole_action(spec, world) -> None:
    """Turns and openings are rare; over many segments each of the seven numbers has been tried."""
    world.reset(0)
    actions = []
    for seed in range(30):
        policy = PlayPolicy(spec, np.random.default_rng(seed))
        actions += [policy.action(world) for _ in range(200)]
    actions = np.array(actions)
    assert np.all(np.abs(actions) <= 1.0)
    assert actions[:, 6].min() == 0.0
    assert np.all(np.abs(actions).max(axis=0) > [0.1] * 3 + [0.05] * 3 + [0.5])


def test_play_is_reproducible_from_its_generator(spec, world) -> None:
    world.reset(0)
    streams = []
    for seed in (1, 1, 2):
        policy = PlayPolicy(spec, np.random.default_rng(seed))
        streams.append([policy.action(world) for _ in range(50)])
    np.testing.assert_array_equal(streams[0], streams[1])
    assert not np.array_equal(streams[0], streams[2])

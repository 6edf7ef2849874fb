"""What several of these tests run on."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.evaluation.rig import Rig
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec

OBJECTS = tuple(f"{cube}_cube.{axis}" for cube in ("red", "blue") for axis in "xyz")
LENGTH, EPISODES = 60, 24


@pytest.fixture(scope="module")
def rig(spec):
    """Without cameras: nothing here looks at an image, and most of an episode's time would go into them."""
    rig = Rig(spec, (), (96, 96))
    yield rig
    rig.world.close()


@pytest.fixture(scope="session")
def data(spec: RobotSpec) -> EpisodeArrays:
    """The tip moves by its actions; from tick 20 on the red cube does, too. A pixel holds the row number."""
    rng, names, rows = np.random.default_rng(0), proprio_names(spec), LENGTH * EPISODES
    actions = np.zeros((rows, 7), np.float32)
    actions[:, :3] = np.repeat(rng.uniform(-0.2, 0.2, (EPISODES, 3)), LENGTH, axis=0)
    steps = actions[:, :3] * spec.translation_scale
    tip, cube = np.zeros((rows, 3)), np.zeros((rows, 6))
    for row in range(rows):
        if row % LENGTH == 0:
            tip[row], cube[row] = rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.1, 0.1, 6)
            continue
        tip[row] = tip[row - 1] + steps[row - 1]
        cube[row] = cube[row - 1]
        cube[row, :3] += steps[row - 1] * (row % LENGTH > 20)
    states = np.zeros((rows, len(names)), np.float32)
    states[:, [names.index(f"tip.position.{axis}") for axis in "xyz"]] = tip
    images = np.zeros((rows, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(rows), 256)
    return EpisodeArrays(
        images={"front": images},
        frame_rows=np.arange(rows),
        row_frame=np.arange(rows),
        states=states,
        actions=actions,
        expert_actions=actions,
        environment=cube.astype(np.float32),
        disturbed=np.zeros(rows, bool),
        success=np.zeros(rows, bool),
        starts=np.arange(0, rows + 1, LENGTH),
        episode_tasks=np.zeros(EPISODES, np.int64),
        seeds=np.arange(EPISODES),
        tasks=("play",),
        state_names=names,
        action_names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
        environment_names=OBJECTS,
        robot=spec.name,
        dt=spec.dt,
    )

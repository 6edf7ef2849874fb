"""What several packages' tests share: the robot, and a world model small enough to be checked by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec, load_robot

# The same examples in every run, however busy the machine: a failure is news, never chance.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    return load_robot("so101")


@pytest.fixture(scope="session")
def kinematics(spec: RobotSpec) -> Kinematics:
    return Kinematics(spec)


class LinearModel:
    """An exact world model: the tip moves by the action, a cube stays; latent z = M x, so z' = z + B a.

    x: tip and red cube (6,) metres. M is 10 times a rotation, so a latent is never mistaken for metres.
    """

    latent_dim, action_dim, dt = 6, 7, 0.02
    encoder_id = "linear-1"
    heads = actor_critic = None
    manifest = SimpleNamespace(name="linear")
    grounding_names = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")

    def __init__(self, translation_scale: float) -> None:
        mix, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))
        self.mix = (10.0 * mix).astype(np.float32)
        self.unmix = (mix.T / 10.0).astype(np.float32)
        self.cube = np.array([0.2, 0.1, 0.0125], np.float32)
        effect = np.zeros((7, 6), np.float32)
        effect[:3, :3] = np.eye(3) * translation_scale
        self.effect = effect @ self.mix.T

    def latent(self, tip: np.ndarray, cube: np.ndarray | None = None) -> np.ndarray:
        """Latents (..., 6) of tips (..., 3), the cube where it is."""
        tip = np.asarray(tip, np.float32)
        cube = np.broadcast_to(self.cube if cube is None else np.asarray(cube, np.float32), tip.shape)
        return np.concatenate([tip, cube], axis=-1) @ self.mix.T

    def encode(self, images: Mapping[str, np.ndarray], proprio: np.ndarray) -> np.ndarray:
        return self.latent(proprio[12:15])

    def predict(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return latents + actions @ self.effect

    def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return latents[:, None] + np.cumsum(actions @ self.effect, axis=1)

    def ground(self, latents: np.ndarray) -> np.ndarray:
        return latents @ self.unmix.T

    def spread(self, latents: np.ndarray) -> None:
        """It imagines no distribution."""


@pytest.fixture(scope="session")
def linear_model(spec: RobotSpec) -> LinearModel:
    return LinearModel(spec.translation_scale)


OBJECTS = tuple(f"{cube}_cube.{axis}" for cube in ("red", "blue") for axis in "xyz")
LENGTH, EPISODES = 60, 24


@pytest.fixture(scope="module")
def rig(spec: RobotSpec) -> Iterator[Any]:
    """Without cameras: nothing here looks at an image, and most of an episode's time would go into them."""
    from wm_vla_ros.rig.rig import Rig

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

"""Driving in a world model that is known by heart, and trials whose outcome is."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros.judging.held_out import Cameras
from wm_vla_ros.lab.imagined_drive import ImaginedArm
from wm_vla_ros.lab.success_prediction import foresee, margins
from wm_vla_ros.lab.trials import Trials, record
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import CUBES, OBJECT_STATE_NAMES, from_instruction, task_for_seed

NAMES = ("tip.x", "tip.y", "tip.z", *OBJECT_STATE_NAMES)


class Metres:
    """Latents are metres: the tip moves by the action, and so does the cube that is `dragged`."""

    dt, latent_dim, action_dim = 0.02, len(NAMES), 7
    grounding_names = NAMES
    manifest = SimpleNamespace(name="metres", cameras={"front": (96, 96)})

    def __init__(self, scale: float, dragged: str | None = None) -> None:
        self._scale = scale
        self._moves = [0, 1, 2] if dragged is None else [0, 1, 2, *self._of(dragged)]

    def _of(self, cube: str) -> list[int]:
        return [NAMES.index(f"{cube}_cube.{axis}") for axis in "xyz"]

    def encode(self, images, proprio: np.ndarray) -> np.ndarray:
        return np.concatenate([proprio[12:15], np.zeros(len(NAMES) - 3, np.float32)])

    def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        out = np.repeat(latents[:, None], actions.shape[1], axis=1)
        steps = np.cumsum(actions[..., :3] * self._scale, axis=1)
        for at, column in enumerate(self._moves):
            out[..., column] += steps[..., at % 3]
        return out

    def ground(self, latents: np.ndarray) -> np.ndarray:
        return latents


class Towards:
    """Moves in one direction, metres a tick; remembers what it saw."""

    chunk_size, n_action_steps, dt = 20, 10, 0.02

    def __init__(self, spec: RobotSpec, step: tuple[float, float, float]) -> None:
        self._action = np.zeros(7, np.float32)
        self._action[:3] = np.array(step) / spec.translation_scale
        self.seen: list[np.ndarray] = []

    def infer(self, images, state: np.ndarray, instruction: str) -> np.ndarray:
        self.seen.append(images["front"])
        return np.tile(self._action, (self.chunk_size, 1))


@pytest.fixture(scope="module")
def arm(spec: RobotSpec) -> Iterator[ImaginedArm]:
    arm = ImaginedArm(spec, ("front",), (96, 96))
    yield arm
    arm.close()


def test_a_cube_that_the_model_moves_is_shown_where_it_went(arm: ImaginedArm, spec: RobotSpec) -> None:
    """The arm is far above it: only a world model that believes in dragging moves it."""
    task, up = from_instruction("push the red cube to the green pad"), (0.0, 0.002, 0.001)
    pictures = {}
    for dragged in (None, "red"):
        policy = Towards(spec, up)
        arm.drive(1000, task, policy, Metres(spec.translation_scale, dragged))
        pictures[dragged] = policy.seen
    np.testing.assert_array_equal(pictures[None][0], pictures["red"][0])
    assert np.abs(pictures[None][2].astype(int) - pictures["red"][2]).max() > 50


def test_a_push_comes_off_where_the_model_says_so_and_nowhere_else(arm: ImaginedArm, spec: RobotSpec) -> None:
    seed = 1000
    task = task_for_seed("push", seed)
    from wm_vla_ros.sim.layout import sample_layout

    layout = sample_layout(seed, task)
    way = np.array(layout.pads[task.pad]) - np.array(layout.cubes[task.cube][:2])
    policy = Towards(spec, (*(0.001 * way / np.linalg.norm(way)), 0.0))
    assert arm.drive(seed, task, policy, Metres(spec.translation_scale, task.cube)).success
    lost = arm.drive(seed, task, policy, Metres(spec.translation_scale))
    assert not lost.success
    assert lost.time == task.time_limit


def test_thinking_takes_time(arm: ImaginedArm, spec: RobotSpec) -> None:
    task, still = task_for_seed("reach", 1000), (0.0, 0.0, 0.0)
    moves = []
    for latency in (0.0, 0.4):
        policy = Towards(spec, still)
        assert not arm.drive(1000, task, policy, Metres(spec.translation_scale), latency).success
        moves.append(len(policy.seen))
    assert moves == [30, 10]


def test_another_period_is_refused(arm: ImaginedArm, spec: RobotSpec) -> None:
    policy = Towards(spec, (0.0, 0.0, 0.0))
    policy.dt = 0.04
    with pytest.raises(ValueError, match="the policy's period is 0.04 s"):
        arm.drive(1000, task_for_seed("reach", 1000), policy, Metres(spec.translation_scale))


class Oracle:
    """Knows where the cube is, and goes there, or away from it."""

    chunk_size, n_action_steps, dt = 40, 20, 0.02

    def __init__(self, spec: RobotSpec, sign: float) -> None:
        self._spec, self._sign = spec, sign

    def infer(self, images, state: np.ndarray, instruction: str) -> np.ndarray:
        chunk = np.zeros((self.chunk_size, 7), np.float32)
        chunk[:, 2] = -self._sign * 0.0015 / self._spec.translation_scale
        return chunk


def test_trials_are_asked_midway_and_end_as_the_policy_deserves(spec: RobotSpec) -> None:
    """One policy goes down to the table, where the expert has brought it; the other rises."""
    found = record(spec, Cameras(("front",), 96, 96), [Oracle(spec, 1.0), Oracle(spec, -1.0)], "reach", 24)
    assert found.chunks.shape == (24, 40, 7)
    assert found.images["front"].shape == (24, 96, 96, 3)
    down, up = found.came_off[::2], found.came_off[1::2]
    assert down.sum() > up.sum()
    assert len({task.cube for task in found.tasks}) == len(CUBES)
    again = record(spec, Cameras(("front",), 96, 96), [Oracle(spec, 1.0), Oracle(spec, -1.0)], "reach", 24)
    np.testing.assert_array_equal(found.came_off, again.came_off)


def test_policies_of_different_chunks_are_refused(spec: RobotSpec) -> None:
    short = Oracle(spec, 1.0)
    short.chunk_size = 10
    with pytest.raises(ValueError, match=r"chunks of one size, got \[10, 40\]"):
        record(spec, Cameras(("front",), 96, 96), [Oracle(spec, 1.0), short], "reach", 4)


def trials(count: int = 200) -> Trials:
    """Tips beside the red cube at 0; a chunk goes towards it or away. It comes off from up to 7 cm."""
    rng = np.random.default_rng(0)
    proprio = np.zeros((count, 18), np.float32)
    proprio[:, 12] = rng.uniform(0.03, 0.12, count)
    chunks = np.zeros((count, 20, 7), np.float32)
    sign = rng.choice([-1.0, 1.0], count)
    chunks[:, :, 0] = (sign * 0.125)[:, None]
    came_off = (sign < 0) & (proprio[:, 12] < 0.07)
    task = from_instruction("touch the red cube")
    images = {"front": np.zeros((count, 96, 96, 3), np.uint8)}
    return Trials(images, proprio, (task,) * count, chunks, came_off)


def test_a_model_that_is_right_foresees_what_a_look_cannot(spec: RobotSpec) -> None:
    model, given = Metres(spec.translation_scale), trials()
    ahead, still = margins(model, given)
    assert ahead == pytest.approx(np.where(given.chunks[:, 0, 0] < 0, ahead, still - 0.0025), abs=1e-6)
    figures = {figure.name: figure for figure in foresee(model, given).figures()}
    assert figures["auroc"].value > 0.95
    assert figures["persistence.auroc"].value < figures["auroc"].value - 0.05
    assert figures["brier_skill"].low > 0.3
    assert figures["brier"].high < figures["persistence.brier"].low
    assert figures["auroc"].n == 100

"""The video family on a toy: a dot that the instruction names a place for, seen from above."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.judging.encodings import probe
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.world_model_trainer import Trainer
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.video import Video, VideoOptions

STAGES = TrainConfig(Stage(0.2, 32, 3e-3), Stage(0.3, 32, 2e-3, 8), Stage(0.5, 64, 2e-3, 12))
OPTIONS = VideoOptions(frames=3, every=4)
TASKS = ("go left", "go right")
SIZE, REACH, LENGTH, COUNT = 32, 0.1, 24, 40
HELD_OUT = np.arange(COUNT - 8, COUNT)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def draw(tip: np.ndarray, cube: np.ndarray) -> np.ndarray:
    """Metres in +-REACH to pixels: a white dot and a red square."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for position, half, colour in ((cube, 3, (220, 20, 20)), (tip, 1, (255, 255, 255))):
        column, row = np.round((position / REACH + 1) * (SIZE - 1) / 2).astype(int)
        image[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = colour
    return image


@pytest.fixture(scope="module")
def data(spec: RobotSpec) -> EpisodeArrays:
    """The dot goes left or right as it is told, at a speed of its own; a square lies about."""
    rng, names = np.random.default_rng(0), proprio_names(spec)
    total = COUNT * LENGTH
    states, objects = np.zeros((total, len(names)), np.float32), np.zeros((total, 3), np.float32)
    actions, images = np.zeros((total, 7), np.float32), []
    tasks = np.arange(COUNT) % 2
    for episode in range(COUNT):
        tip, cube = rng.uniform(-0.05, 0.05, 2), rng.uniform(-0.07, 0.07, 2)
        speed = rng.uniform(0.05, 0.12)
        for row in range(episode * LENGTH, (episode + 1) * LENGTH):
            if row % 2 == 0:
                images.append(draw(tip, cube))
            states[row, names.index("tip.position.x")], states[row, names.index("tip.position.y")] = tip
            objects[row, :2] = cube
            actions[row, 0] = speed * (2 * tasks[episode] - 1)
            actions[row, 1] = rng.normal(0.0, 0.02)
            tip = np.clip(tip + actions[row, :2] * spec.translation_scale, -0.095, 0.095)
    success = np.zeros(total, bool)
    success[LENGTH - 1 :: LENGTH] = True
    return EpisodeArrays(
        images={"front": np.stack(images)},
        frame_rows=np.arange(0, total, 2),
        row_frame=np.arange(total) // 2,
        states=states,
        actions=actions,
        expert_actions=actions,
        environment=objects,
        disturbed=np.zeros(total, bool),
        success=success,
        starts=np.arange(0, total + 1, LENGTH),
        episode_tasks=tasks,
        seeds=np.arange(COUNT),
        tasks=TASKS,
        state_names=names,
        action_names=EE_ACTION_NAMES,
        environment_names=("red_cube.x", "red_cube.y", "red_cube.z"),
        robot=spec.name,
        dt=spec.dt,
    )


def trainer(data: EpisodeArrays, options: VideoOptions = OPTIONS, stages: TrainConfig = STAGES) -> Trainer:
    family = partial(Video, options=options)
    return Trainer(data, np.arange(COUNT - 8), ("front",), stages, 0, family=family)


@pytest.fixture(scope="module")
def trained(data: EpisodeArrays) -> Trainer:
    torch.set_num_threads(1)
    one = trainer(data)
    one.run(Budget(steps=240))
    return one


def test_inverse_dynamics_beats_the_mean_and_the_previous_action(trained: Trainer) -> None:
    """On unseen episodes, with the previous action known to the rival alone."""
    found = trained.held_out(HELD_OUT)
    assert found["inverse.ratio_mean"] < 0.4
    assert found["inverse.ratio_previous"] < 0.9


def test_the_video_follows_the_instruction(trained: Trainer, data: EpisodeArrays) -> None:
    """Told to go right, the dot of the last predicted frame is further to the right, in both modes."""
    model = trained.model
    rows = data.starts[HELD_OUT]
    latents = trained.encode(rows)
    with torch.no_grad():
        for foresight in (model.sequence, model.subgoal):
            left, right = (
                model.grounding(foresight(latents, torch.full((len(rows),), task))[:, -1])[:, 0]
                for task in (0, 1)
            )
            assert float((right > left).float().mean()) == 1.0
            assert float((right - left).mean()) > 0.01
            for head in (model.goal_actions, model.inverse):
                ahead = foresight(latents, torch.ones(len(rows), dtype=torch.int64))[:, -1]
                assert float(head(latents, ahead)[..., 0].mean()) > 0.0


def test_predicted_frames_are_nearer_than_the_present_one(trained: Trainer) -> None:
    found = trained.held_out(HELD_OUT)
    assert found["sequence.ratio_persistence"] < 0.5
    assert found["subgoal.ratio_persistence"] < 0.5


def test_decoded_images_show_where_the_square_is(trained: Trainer, data: EpisodeArrays) -> None:
    """The reddest part of a decoded image lies where the square was drawn."""
    rows = data.frame_rows[np.isin(data.row_episode()[data.frame_rows], HELD_OUT)][::6]
    with torch.no_grad():
        images = trained.model.decoder(trained.encode(rows)).numpy()
    red = np.clip(images[..., 0] - images[..., 1] - 0.15, 0.0, None)
    across = (red.sum(1) * np.arange(SIZE)).sum(1) / red.sum((1, 2))
    wanted = (data.environment[rows, 0] / REACH + 1) * (SIZE - 1) / 2
    assert np.corrcoef(across, wanted)[0, 1] > 0.9


def test_decoding_is_what_keeps_it_from_collapsing(data: EpisodeArrays) -> None:
    """No metre shapes either latent. Without decoding the error is far better, and the square blurred."""
    stages = TrainConfig(Stage(0.01, 32, 3e-3), Stage(0.95, 32, 2e-3, 8), Stage(0.04, 32, 2e-3, 12))
    held_out = data.frame_rows[np.isin(data.row_episode()[data.frame_rows], HELD_OUT)]
    error, cube = {}, {}
    for name, pixels in (("without", 0.0), ("with", 5.0)):
        one = trainer(data, replace(OPTIONS, pixels=pixels, grounded=False), stages)
        one.run(Budget(steps=150))
        known = data.environment[:, :2]
        guess = probe(
            one.encode(one._frame_rows).numpy(), known[one._frame_rows], one.encode(held_out).numpy()
        )
        residual = np.sum((guess - known[held_out]) ** 2)
        error[name] = np.mean([e["consistency"] for e in one.history if e["stage"] == "joint"][-5:])
        cube[name] = 1 - residual / np.sum((known[held_out] - known[held_out].mean(0)) ** 2)
    assert error["without"] < 0.2 * error["with"]
    assert cube["with"] > 0.95
    assert 1 - cube["without"] > 4 * (1 - cube["with"])


def test_frames_beyond_the_windows_are_refused_before_training(data: EpisodeArrays) -> None:
    with pytest.raises(ValueError, match=r"family video looks \[16\] ticks ahead: .* windows are 12 long"):
        trainer(data, replace(OPTIONS, frames=4))
    with pytest.raises(ValueError, match=r"looks \[3, 9\] ticks ahead: images come every 2 ticks"):
        trainer(data, replace(OPTIONS, every=3))


def test_play_alone_teaches_actions_and_no_video(data: EpisodeArrays) -> None:
    one = trainer(replace(data, success=np.zeros_like(data.success)))
    one.run(Budget(steps=12))
    last = one.history[-1]
    assert "inverse" in last
    assert "sequence" not in last
    assert "sequence.ratio_persistence" not in one.held_out(HELD_OUT)

"""Training on synthetic episodes: a dot is the fingertip, a square is pushed when the dot runs into it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.training import world_model
from wm_vla_ros.training.sequences import columns, grounding_names, positions, split, window_starts
from wm_vla_ros.training.world_model import WorldModelTraining, train
from wm_vla_ros.training.world_model_loss import LossConfig, Losses, TargetEncoder, Window, augment
from wm_vla_ros.training.world_model_trainer import Budget, Stage, TrainConfig, Trainer
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.manifest import ModelRefused

STAGES = TrainConfig(
    encoder=Stage(0.5, 32, 3e-3), joint=Stage(0.25, 16, 2e-3, 8), dynamics=Stage(0.25, 32, 2e-3, 12)
)
SIZE, REACH, PUSH = 32, 0.1, 0.02


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def draw(tip: np.ndarray, cube: np.ndarray) -> np.ndarray:
    """Seen from above: metres in +-REACH to pixels, a white dot and a red square."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for position, half, colour in ((cube, 3, (220, 20, 20)), (tip, 1, (255, 255, 255))):
        column, row = np.round((position[:2] / REACH + 1) * (SIZE - 1) / 2).astype(int)
        image[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = colour
    return image


@pytest.fixture(scope="module")
def data(spec: RobotSpec) -> EpisodeArrays:
    """12 episodes of 40 rows with an image at every second one."""
    rng, names = np.random.default_rng(0), proprio_names(spec)
    length, count = 40, 12
    states = np.zeros((count * length, len(names)), np.float32)
    actions, objects, images = [], [], []
    for row in range(count * length):
        if row % length == 0:
            tip, cube = rng.uniform(-0.07, 0.07, (2, 2))
        if row % 10 == 0:
            velocity = rng.uniform(-0.2, 0.2, 2)
        if row % 2 == 0:
            images.append(draw(tip, cube))
        states[row, names.index("tip.position.x")], states[row, names.index("tip.position.y")] = tip
        actions.append([*velocity, 0, 0.01 * velocity[1], 0, 0, 0])
        objects.append([*cube, 0.0125])
        tip = np.clip(tip + velocity * spec.translation_scale, -0.09, 0.09)
        if np.linalg.norm(cube - tip) < PUSH:
            cube = np.clip(cube + velocity * spec.translation_scale, -0.09, 0.09)
    total = count * length
    return EpisodeArrays(
        images={"front": np.stack(images)},
        frame_rows=np.arange(0, total, 2),
        row_frame=np.arange(total) // 2,
        states=states,
        actions=np.asarray(actions, np.float32),
        expert_actions=np.asarray(actions, np.float32),
        environment=np.asarray(objects, np.float32),
        disturbed=np.zeros(total, bool),
        success=np.zeros(total, bool),
        starts=np.arange(0, total + 1, length),
        episode_tasks=np.zeros(count, np.int64),
        seeds=np.arange(count),
        tasks=("play",),
        state_names=names,
        action_names=EE_ACTION_NAMES,
        environment_names=("red_cube.x", "red_cube.y", "red_cube.z"),
        robot=spec.name,
        dt=spec.dt,
    )


def trainer(data: EpisodeArrays, seed: int = 0, stages: TrainConfig = STAGES) -> Trainer:
    return Trainer(data, np.arange(10), ("front",), stages, seed)


def weights(of: Trainer) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in of.model.parameters()])


def test_training_lowers_every_term(data: EpisodeArrays) -> None:
    trained = trainer(data)
    trained.run(Budget(steps=120))
    assert trained.steps() == {"encoder": 60, "joint": 30, "dynamics": 30}
    encoder = [entry["encoded"] for entry in trained.history if entry["stage"] == "encoder"]
    assert np.mean(encoder[-5:]) < 0.5 * np.mean(encoder[:5])
    later = [entry for entry in trained.history if entry["stage"] != "encoder"]
    for term in ("predicted", "tip_motion"):
        values = [entry[term] for entry in later]
        assert np.mean(values[-5:]) < 0.7 * np.mean(values[:5]), term


def test_same_seed_same_weights(data: EpisodeArrays) -> None:
    first, again, other = trainer(data, 3), trainer(data, 3), trainer(data, 4)
    for one in (first, again, other):
        one.run(Budget(steps=8))
    np.testing.assert_array_equal(weights(first), weights(again))
    assert first.history == again.history
    assert not np.array_equal(weights(first), weights(other))


def test_held_out_episodes_are_never_drawn(data: EpisodeArrays) -> None:
    """Frames and windows come from the given episodes alone, whatever the stage."""
    one = trainer(data)
    allowed = set(range(10))
    assert set(data.row_episode()[one._frame_rows]) == allowed
    for starts in one.starts.values():
        assert set(data.row_episode()[starts]) <= allowed
    with pytest.raises(ValueError, match="no episode among 10 has a window of 40 ticks"):
        trainer(data, stages=replace(STAGES, dynamics=Stage(0.2, 8, 1e-3, 40)))


def test_action_that_never_varied_has_no_effect(data: EpisodeArrays) -> None:
    """Nothing was learned about the gripper here; a planner that opens it must not see the cube jump."""
    model = trainer(data).model
    latent = model.encoder([torch.from_numpy(data.images["front"][:1])], torch.from_numpy(data.states[:1]))
    still = torch.zeros(1, 7)
    moved = still.clone()
    moved[0, [2, 6]] = 1.0
    torch.testing.assert_close(model.dynamics(latent, moved), model.dynamics(latent, still))
    moved[0, 0] = 1.0
    assert not torch.allclose(model.dynamics(latent, moved), model.dynamics(latent, still))


def test_proprioception_is_normalised_by_the_data(data: EpisodeArrays, spec: RobotSpec) -> None:
    encoder = trainer(data).model.encoder
    at = data.state_names.index("tip.position.x")
    rows = data.states[:400]
    assert encoder.proprio_scale[at] == pytest.approx(1.0 / rows[:, at].std(), rel=1e-4)
    assert encoder.proprio_mean[at] == pytest.approx(rows[:, at].mean(), abs=1e-6)
    assert encoder.proprio_scale[0] == 0.0


class TestLosses:
    NAMES = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")

    def window(self, cube_motion: float) -> Window:
        truth = torch.zeros(1, 5, 6)
        truth[0, :, 3] = torch.linspace(0.0, cube_motion, 5)
        return Window(torch.zeros(1, 4, 7), truth)

    def predicted(self, window: Window, grounded: torch.Tensor) -> tuple[float, float]:
        losses = Losses(self.NAMES, LossConfig(), torch.device("cpu"))
        position, motion = losses.predicted(window.positions[:, 0], grounded, window)
        return float(position), float(motion)

    def test_truth_costs_nothing(self) -> None:
        window = self.window(0.02)
        assert self.predicted(window, window.positions[:, 1:]) == (0.0, 0.0)

    def test_a_cube_that_moves_weighs_more(self) -> None:
        """The same error of 4 mm, once of a cube that rests and once of one that is pushed."""
        costs = []
        for motion in (0.0, 0.02):
            window = self.window(motion)
            wrong = window.positions[:, 1:].clone()
            wrong[..., 4] += 0.004
            costs.append(self.predicted(window, wrong)[0])
        assert costs[1] == pytest.approx(LossConfig().moving * costs[0])

    def test_tip_motion_ignores_a_constant_offset(self) -> None:
        window = self.window(0.0)
        losses = Losses(self.NAMES, LossConfig(), torch.device("cpu"))
        position, motion = losses.predicted(
            window.positions[:, 0] + 0.01, window.positions[:, 1:] + 0.01, window
        )
        assert motion == pytest.approx(0.0, abs=1e-6)
        assert position > 0.0


def test_target_encoder_follows_slowly(data: EpisodeArrays) -> None:
    encoder = trainer(data).model.encoder
    target = TargetEncoder(encoder, 0.25)
    before = encoder.linear.weight.detach().clone()
    with torch.no_grad():
        encoder.linear.weight += 1.0
    target.follow(encoder)
    torch.testing.assert_close(target.encoder.linear.weight, before + 0.25)
    assert not any(parameter.requires_grad for parameter in target.encoder.parameters())


def test_augment_changes_light_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    images = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (64, 64, 5, 3)).copy()
    changed = augment(images, rng)
    assert changed.dtype == np.uint8
    assert changed.shape == images.shape
    assert len({image[32, 0, 0] for image in changed}) > 10
    # Light keeps the order of grey levels, and positions.
    assert np.all(np.diff(changed[:, :, 0, 0].astype(int), axis=1) >= 0)
    assert np.all(changed == changed[:, :, :1, :1])


def test_split_is_by_episode(data: EpisodeArrays) -> None:
    used, held_out = split(data, 0.25, seed=1)
    assert len(held_out) == 3
    assert sorted([*used, *held_out]) == list(range(12))
    assert list(split(data, 0.25, seed=1)[1]) == list(held_out)
    assert list(split(data, 0.25, seed=2)[1]) != list(held_out)


def test_windows_start_at_images_and_stay_in_their_episode(data: EpisodeArrays) -> None:
    starts = window_starts(data, np.array([1, 3]), 12)
    assert set(starts) == {*range(40, 68, 2), *range(120, 148, 2)}


def test_names_of_what_is_grounded(data: EpisodeArrays) -> None:
    names = grounding_names(data)
    assert names[:3] == ("tip.x", "tip.y", "tip.z")
    assert columns(names, "_cube") == {"red_cube": [3, 4, 5]}
    np.testing.assert_array_equal(positions(data)[:, 3:], data.environment)
    with pytest.raises(ValueError, match="no object positions"):
        positions(replace(data, environment_names=(), environment=data.environment[:, :0]))
    with pytest.raises(ValueError, match=r"lacks \['tip.position.x'"):
        positions(replace(data, state_names=("a",) * 18))


@pytest.mark.parametrize("steps, minutes", [(None, None), (5, 1.0), (0, None), (None, -1.0)])
def test_budget_is_steps_or_minutes(steps: int | None, minutes: float | None) -> None:
    with pytest.raises(ValueError, match="give a positive steps or minutes"):
        Budget(steps, minutes)


@pytest.fixture
def from_memory(data: EpisodeArrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_model, "load_episodes", lambda root, cameras: data)


def test_command_writes_a_model_that_loads(from_memory: None, tmp_path: Path, spec: RobotSpec) -> None:
    out = tmp_path / "dot_pusher"
    shares: list[float] = []
    training = WorldModelTraining(steps=8, held_out=0.2, stages=STAGES)
    report = train([Path("data/dots")], out, training, lambda share, note: shares.append(share))
    model = world_models.load(out, robot=spec)
    assert model.manifest.dataset == ("dots",)
    assert model.manifest.command == (
        "wm-vla train world-model --dataset dots --output dot_pusher --steps 8 --seed 0 --cameras front"
    )
    names = {figure.name for figure in report.figures}
    assert {"imagination.ratio_10", "imagination.probe_r2_tip", "imagination.probe_r2_cube"} <= names
    written = json.loads((out / "report.json").read_text())
    assert [figure["name"] for figure in written["figures"]] == [figure.name for figure in report.figures]
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] <= shares[-1] <= 1.0
    with pytest.raises(FileExistsError, match="holds a model already"):
        train([Path("data/dots")], out, training)


@pytest.mark.parametrize("name", ["bad name", ".hidden"])
def test_name_that_no_model_can_have_is_refused_before_training(
    from_memory: None, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ModelRefused, match="expected a folder with a plain name"):
        train([Path("x")], tmp_path / name, WorldModelTraining(steps=8, stages=STAGES))


def test_unknown_device_lists_the_valid_ones(from_memory: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown device 'tpu'; valid: cpu, cuda, auto"):
        train([Path("x")], tmp_path / "model", WorldModelTraining(steps=8, device="tpu", stages=STAGES))

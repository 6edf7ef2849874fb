"""Training on synthetic episodes: a dot is the fingertip, a square is pushed when the dot runs into it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import (
    columns,
    grounding_names,
    in_metres,
    positions,
    split,
    window_starts,
)
from wm_vla_ros.judging.encodings import probe
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.training import start_from, world_model_training
from wm_vla_ros.training.devices import chosen_precision
from wm_vla_ros.training.start_from import take_vision
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.world_model_loss import LossConfig, Losses, TargetEncoder, augment
from wm_vla_ros.training.world_model_trainer import Trainer
from wm_vla_ros.training.world_model_training import WorldModelTraining, train
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.family import Window
from wm_vla_ros.world_models.implicit import Implicit
from wm_vla_ros.world_models.jepa import Jepa, JepaOptions
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, ModelRefused
from wm_vla_ros.world_models.mdn_rnn import MdnRnn, MdnRnnOptions
from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
from wm_vla_ros.world_models.rssm import RssmOptions, RssmWorldModel

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
    for starts in one.windows.starts.values():
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
        position, motion, _ = losses.predicted(window.positions[:, 0], grounded, window)
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

    def test_object_motion_is_asked_of_objects_that_move_and_ignores_a_constant_offset(self) -> None:
        losses = Losses(self.NAMES, LossConfig(), torch.device("cpu"))
        for motion, costs in ((0.0, False), (0.02, True)):
            window = self.window(motion)
            start, truth = window.positions[:, 0], window.positions[:, 1:]
            assert float(losses.predicted(start + 0.01, truth + 0.01, window)[2]) == pytest.approx(
                0.0, abs=1e-6
            )
            wrong = truth.clone()
            wrong[..., 4] += 0.004
            assert (float(losses.predicted(start, wrong, window)[2]) > 0.0) is costs

    def test_tip_motion_ignores_a_constant_offset(self) -> None:
        window = self.window(0.0)
        losses = Losses(self.NAMES, LossConfig(), torch.device("cpu"))
        position, motion, _ = losses.predicted(
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
    without = replace(data, environment_names=(), environment=data.environment[:, :0])
    assert grounding_names(without) == names[:3]
    assert in_metres(without).all()
    np.testing.assert_array_equal(positions(without), positions(data)[:, :3])


def test_without_a_fingertip_the_state_itself_is_grounded(data: EpisodeArrays) -> None:
    """Then objects, in metres; with neither, the light of the images, held between them."""
    joints = replace(data, state_names=tuple(f"motor.{n}" for n in range(18)))
    assert grounding_names(joints) == (*joints.state_names, *data.environment_names)
    assert in_metres(joints).tolist() == [False] * 18 + [True] * 3
    np.testing.assert_array_equal(positions(joints)[:, :18], data.states)
    nothing = {"environment_names": (), "environment": data.environment[:, :0]}
    blind = replace(data, state_names=(), states=data.states[:, :0], **nothing)
    light = positions(blind)
    assert light.shape == (len(data.actions), 48)
    assert not in_metres(blind).any()
    corner = data.images["front"][3, :8, 8:16, 1].mean() / 255.0
    assert light[6, grounding_names(blind).index("front.light.0.1.g")] == pytest.approx(corner, abs=1e-6)
    np.testing.assert_array_equal(light[7], light[6])
    with pytest.raises(ValueError, match="neither state nor object positions nor a camera"):
        positions(replace(blind, images={}))


@pytest.mark.parametrize("steps, minutes", [(None, None), (5, 1.0), (0, None), (None, -1.0)])
def test_budget_is_steps_or_minutes(steps: int | None, minutes: float | None) -> None:
    with pytest.raises(ValueError, match="give a positive steps or minutes"):
        Budget(steps, minutes)


@pytest.fixture
def from_memory(data: EpisodeArrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_model_training, "load_episodes", lambda root, cameras: data)


def test_command_writes_a_model_that_loads(from_memory: None, tmp_path: Path, spec: RobotSpec) -> None:
    out = tmp_path / "dot_pusher"
    shares: list[float] = []
    training = WorldModelTraining(steps=8, held_out=0.2, stages=STAGES)
    report = train([Path("data/dots")], out, training, lambda share, note: shares.append(share))
    model = world_models.load(out, robot=spec)
    assert model.manifest.dataset == ("dots",)
    assert model.manifest.command == (
        "wm-vla train world-model --dataset dots --output dot_pusher --steps 8 --seed 0 --cameras front "
        f"--precision {chosen_precision('auto', 'cpu')}"
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


def effective_rank(latents: np.ndarray) -> float:
    """exp of the entropy of the spectrum (Roy and Vetterli, "The effective rank", 2007)."""
    spectrum = np.linalg.svd(latents - latents.mean(0), compute_uv=False) ** 2
    share = spectrum / spectrum.sum()
    return float(np.exp(-np.sum(share * np.log(share + 1e-12))))


def test_vicreg_is_what_keeps_a_jepa_from_collapsing(data: EpisodeArrays) -> None:
    """No metre shapes either latent. Without VICReg the error is better, and the cube lost."""
    stages = TrainConfig(Stage(0.3, 32, 3e-3), Stage(0.6, 32, 2e-3, 8), Stage(0.1, 32, 2e-3, 12))
    held_out = np.arange(400, 480, 2)
    rank, error, cube = {}, {}, {}
    for name, options in {
        "without": JepaOptions(variance=0.0, covariance=0.0, grounded=False),
        "with": JepaOptions(grounded=False),
    }.items():
        one = Trainer(data, np.arange(10), ("front",), stages, 0, family=partial(Jepa, options=options))
        one.run(Budget(steps=60))
        latents = one.encode(one._frame_rows).numpy()
        rank[name] = effective_rank(latents)
        error[name] = np.mean([e["consistency"] for e in one.history if e["stage"] == "joint"][-5:])
        known = data.environment[:, :2]
        guess = probe(latents, known[one._frame_rows], one.encode(held_out).numpy())
        residual = np.sum((guess - known[held_out]) ** 2)
        cube[name] = 1 - residual / np.sum((known[held_out] - known[held_out].mean(0)) ** 2)
    assert rank["without"] < 0.7 * rank["with"]
    assert error["without"] < 0.5 * error["with"]
    assert cube["without"] < 0.8
    assert cube["with"] > 0.9


@pytest.mark.parametrize(
    "family, options",
    [
        (RssmWorldModel, RssmOptions(deterministic=32, variables=16, hidden=64, evidence=0.1)),
        (MdnRnn, MdnRnnOptions(variables=24, memory=24, hidden=64, evidence=0.1)),
    ],
)
def test_reconstruction_is_what_keeps_a_recurrent_family_from_collapsing(
    data: EpisodeArrays, family: type, options: RssmOptions | MdnRnnOptions
) -> None:
    """No metre shapes either latent. Without reconstruction the error is better, and the cube lost."""
    # One precision whatever the machine, and long enough that no machine's rounding decides.
    stages = TrainConfig(
        Stage(0.05, 32, 3e-3), Stage(0.85, 32, 2e-3, 8), Stage(0.1, 32, 2e-3, 12), precision="no"
    )
    held_out = np.arange(400, 480, 2)
    known = data.environment[:, :2]
    error, cube = {}, {}
    for weight in (0.0, 1.0):
        own = replace(options, reconstruction=weight, grounded=False)
        one = Trainer(data, np.arange(10), ("front",), stages, 0, family=partial(family, options=own))
        one.run(Budget(steps=220))
        error[weight] = np.mean([e["consistency"] for e in one.history if e["stage"] == "joint"][-5:])
        guess = probe(
            one.encode(one._frame_rows).numpy(), known[one._frame_rows], one.encode(held_out).numpy()
        )
        residual = np.sum((guess - known[held_out]) ** 2)
        cube[weight] = 1 - residual / np.sum((known[held_out] - known[held_out].mean(0)) ** 2)
    assert error[0.0] < 0.5 * error[1.0]
    assert cube[0.0] < 0.7
    assert cube[1.0] > 0.9


@pytest.mark.parametrize("family", [RssmWorldModel, MdnRnn])
def test_a_family_that_draws_is_reproducible_too(data: EpisodeArrays, family: type) -> None:
    found = []
    for seed in (3, 3, 4):
        one = Trainer(data, np.arange(10), ("front",), STAGES, seed, family=family)
        one.run(Budget(steps=6))
        found.append(weights(one))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.fixture(scope="module")
def rewarded(data: EpisodeArrays) -> EpisodeArrays:
    """Success is the tip on the left: something to be seen in every latent; the expert goes there."""
    left = data.states[:, data.state_names.index("tip.position.x")] < 0.0
    expert = np.zeros_like(data.actions)
    expert[:, 0] = np.where(left, 0.0, -0.2)
    return replace(data, success=left, expert_actions=expert)


class TestImplicit:
    def test_heads_learn_reward_value_and_the_expert(self, rewarded: EpisodeArrays) -> None:
        stages = replace(STAGES, encoder=Stage(0.2, 16, 3e-3), dynamics=Stage(0.6, 32, 2e-3, 12))
        one = Trainer(rewarded, np.arange(10), ("front",), stages, 0, family=Implicit)
        untrained = one.held_out(np.array([10, 11]))
        one.run(Budget(steps=100))
        trained = one.held_out(np.array([10, 11]))
        assert trained["reward.mean_error"] < 0.6 * untrained["reward.mean_error"]
        assert trained["value.spearman"] > 0.5
        assert trained["policy.ratio_mean"] < 0.7

    def test_without_success_there_is_nothing_to_learn_or_report(self, data: EpisodeArrays) -> None:
        one = Trainer(data, np.arange(10), ("front",), STAGES, 0, family=Implicit)
        one.run(Budget(steps=6))
        assert "value" not in one.history[-1]
        assert one.held_out(np.array([10, 11])) == {}


def test_family_and_its_options_are_told(from_memory: None, tmp_path: Path, spec: RobotSpec) -> None:
    """Also: vision goes on from another model's, of the same cameras."""
    train([Path("dots")], tmp_path / "first", WorldModelTraining(steps=4, held_out=0.2, stages=STAGES))
    out = tmp_path / "second"
    training = WorldModelTraining(
        "jepa", steps=4, held_out=0.2, stages=STAGES, vision_from=str(tmp_path / "first")
    )
    report = train([Path("dots")], out, training)
    manifest = world_models.load(out, robot=spec).manifest
    assert manifest.family == "jepa"
    assert "--family jepa" in manifest.command
    assert "--vision-from first" in manifest.command
    assert report.conditions["options"] == {
        "variance": 20.0,
        "covariance": 1.0,
        "grounded": True,
        "backbone": "",
    }


def test_dynamics_go_on_from_a_trained_model_whose_encoder_stays(from_memory: None, tmp_path: Path) -> None:
    train([Path("dots")], tmp_path / "first", WorldModelTraining(steps=4, held_out=0.2, stages=STAGES))
    training = WorldModelTraining(steps=4, held_out=0.2, stages=STAGES, start_from=str(tmp_path / "first"))
    report = train([Path("dots")], tmp_path / "second", training)
    before, after = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("first", "second"))
    for name, value in before.items():
        same = np.array_equal(value, after[name])
        assert same == (name.startswith("encoder.") or "mean" in name or "std" in name or "scale" in name), (
            name
        )
    assert report.conditions["steps"] == {"dynamics": 4}
    command = json.loads((tmp_path / "second" / MANIFEST_NAME).read_text())["command"]
    assert "--start-from first" in command


def test_what_touching_does_is_learned_in_the_last_stage_alone(data: EpisodeArrays) -> None:
    """Before it grounding moves, and nobody knows where things are."""
    one = Trainer(data, np.arange(10), ("front",), replace(STAGES, dynamics=Stage(0.0, 32, 2e-3, 12)), 0)
    one.run(Budget(steps=6))
    assert not one.model.dynamics.contact.read.any()
    assert not one.model.dynamics.contact.out.weight.any()
    whole = Trainer(data, np.arange(10), ("front",), STAGES, 0)
    whole.run(Budget(steps=12))
    assert whole.model.dynamics.contact.read.any()
    assert whole.model.dynamics.contact.out.weight.any()


def test_a_model_that_had_no_part_for_touching_goes_on_with_one(
    data: EpisodeArrays, monkeypatch: pytest.MonkeyPatch, spec: RobotSpec
) -> None:
    model, older = trainer(data).model, trainer(data).model
    torch.nn.init.normal_(older.dynamics.out.weight)
    had = {name: value for name, value in older.state_dict().items() if "contact" not in name}
    monkeypatch.setattr(start_from, "_trained", lambda name, robot, cameras: (model.family, dict(had)))
    start_from.take_weights(model, "older", spec, ("front",))
    torch.testing.assert_close(model.dynamics.out.weight, older.dynamics.out.weight)
    had.popitem()
    with pytest.raises(ModelRefused, match="older: .*Missing key"):
        start_from.take_weights(model, "older", spec, ("front",))


def test_a_thawed_encoder_trains_on(from_memory: None, tmp_path: Path) -> None:
    train([Path("dots")], tmp_path / "first", WorldModelTraining(steps=4, held_out=0.2, stages=STAGES))
    training = WorldModelTraining(
        steps=8, held_out=0.2, stages=STAGES, start_from=str(tmp_path / "first"), thaw=True
    )
    report = train([Path("dots")], tmp_path / "second", training)
    before, after = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("first", "second"))
    assert any(
        not np.array_equal(value, after[name])
        for name, value in before.items()
        if name.startswith("encoder.vision.")
    )
    steps = report.conditions["steps"]
    assert set(steps) == {"joint", "dynamics"}
    assert sum(steps.values()) == 8
    command = json.loads((tmp_path / "second" / MANIFEST_NAME).read_text())["command"]
    assert "--start-from first --thaw" in command


def test_there_is_nothing_to_thaw_without_a_model() -> None:
    with pytest.raises(ValueError, match="thaw: only the encoder of start_from is at rest"):
        WorldModelTraining(steps=4, thaw=True)


def test_a_model_of_another_family_is_no_start(from_memory: None, tmp_path: Path) -> None:
    train([Path("dots")], tmp_path / "first", WorldModelTraining(steps=4, held_out=0.2, stages=STAGES))
    training = WorldModelTraining(
        "jepa", steps=4, held_out=0.2, stages=STAGES, start_from=str(tmp_path / "first")
    )
    with pytest.raises(ModelRefused, match="expected the family jepa .* found latent_dynamics"):
        train([Path("dots")], tmp_path / "second", training)


def test_a_whole_model_brings_its_own_vision() -> None:
    with pytest.raises(ValueError, match="start_from: a whole model has its own vision"):
        WorldModelTraining(steps=4, start_from="a", vision_from="b")


def test_vision_of_other_sizes_is_refused(data: EpisodeArrays) -> None:
    model = trainer(data).model
    vision = {name: value.clone() for name, value in model.encoder.vision.state_dict().items()}
    vision["0.heads.bias"] += 1.0
    take_vision(model, vision)
    torch.testing.assert_close(model.encoder.vision[0].heads.bias, vision["0.heads.bias"])
    vision["0.heads.bias"] = vision["0.heads.bias"][:-1]
    with pytest.raises(ModelRefused, match="vision: .*heads.bias"):
        take_vision(model, vision)


def test_unknown_family_lists_the_known(from_memory: None, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="family: expected one of latent_dynamics, .*, found 'gan'"):
        train([Path("x")], tmp_path / "model", WorldModelTraining("gan", steps=8, stages=STAGES))

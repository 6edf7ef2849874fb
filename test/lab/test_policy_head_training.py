"""A policy's head that learns in imagination: what it is paid for, and that nothing but the head changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from safetensors.torch import load_file
from torch import Tensor

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.lab import policy_head_training
from wm_vla_ros.lab.head_dream import (
    END,
    PATH,
    ChunkDream,
    DemonstrationPaths,
    HeadLearning,
    learn,
    path_baseline,
)
from wm_vla_ros.lab.policy_head_training import PolicyHeadTraining, train
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.training.policy_data import samples_of
from wm_vla_ros.training.policy_files import policy_folder
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.vla.keypoint_chunk import KeypointChunkConfig
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkNet
from wm_vla_ros.vla.policy import SlowPolicy
from wm_vla_ros.vla.policy_manifest import PolicyRefused, read_manifest
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, ModelRefused, sha256_of
from wm_vla_ros.world_models.registry import find

POLICY, MODEL = "so101_keypoint_chunk", "so101_latent_dynamics"
A, CHUNK, LENGTH, STEP = 7, 8, 13, 0.05
TASK = "touch the red cube"


class Cart(torch.nn.Module):
    """A world by hand: the latent is the tip's place, an action moves it by 0.05 at most."""

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        return latent + STEP * action[..., :3]

    def rollout(self, latent: Tensor, actions: Tensor) -> Tensor:
        return latent[:, None] + STEP * actions[..., :3].cumsum(1)


def walks(seed: int, episodes: int = 60, disturbed: tuple[int, ...] = ()) -> EpisodeArrays:
    """Straight ways to a place, a picture every other row; `states` are where the tip is, and where it goes.

    disturbed: rows of every episode in which something else acted.
    """
    rng = np.random.default_rng(seed)
    start, goal = rng.uniform(-0.2, 0.2, (2, episodes, 1, 3))
    share = np.arange(LENGTH)[None, :, None] / (LENGTH - 1)
    at = start + share * (goal - start)
    actions = np.zeros((episodes, LENGTH, A))
    actions[:, :-1, :3] = (goal - start) / (LENGTH - 1) / STEP
    total = episodes * LENGTH
    flags = np.zeros((episodes, LENGTH), bool)
    flags[:, list(disturbed)] = True
    even = np.arange(LENGTH) % 2 == 0
    flat = np.tile(even, episodes)
    return EpisodeArrays(
        images={},
        frame_rows=np.flatnonzero(flat),
        row_frame=np.cumsum(flat) - 1,
        states=np.concatenate([at, np.broadcast_to(goal, at.shape)], 2).reshape(total, 6).astype(np.float32),
        actions=actions.reshape(total, A).astype(np.float32),
        expert_actions=actions.reshape(total, A).astype(np.float32),
        environment=np.zeros((total, 0), np.float32),
        disturbed=flags.ravel(),
        success=np.tile(np.arange(LENGTH) == LENGTH - 1, episodes),
        starts=np.arange(0, total + 1, LENGTH),
        episode_tasks=np.zeros(episodes, np.int64),
        seeds=np.arange(episodes),
        tasks=(TASK,),
        state_names=(),
        action_names=EE_ACTION_NAMES,
        environment_names=(),
        robot="so101",
        dt=0.02,
    )


def network() -> KeypointChunkNet:
    torch.manual_seed(0)
    config = KeypointChunkConfig(
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        vocabulary=["touch"],
        channels=8,
        blocks=1,
        keypoints=4,
        hidden=64,
        layers=1,
        device="cpu",
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
            "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 16, 16)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (A,))},
    )
    return KeypointChunkNet(config)


def ways(data: EpisodeArrays, width: int = 6) -> DemonstrationPaths:
    """As if the policy's trunk told the head the state, and the world model's latent were the tip's place."""
    samples = samples_of(data, np.arange(data.episodes), CHUNK)
    features = torch.zeros(len(samples), width)
    features[:, :6] = 5.0 * torch.from_numpy(data.states[samples.rows])
    return DemonstrationPaths.of(samples, features, data.states[samples.rows, :3])


def dream(seen: DemonstrationPaths, goal: str = PATH) -> ChunkDream:
    std = torch.tensor([0.3, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0])
    one = torch.ones(A)
    return ChunkDream(Cart(), torch.zeros(A), std, -one, one, goal, path_baseline(seen, goal))  # type: ignore[arg-type]


def paid(net: KeypointChunkNet, world: ChunkDream, of: DemonstrationPaths) -> float:
    with torch.no_grad():
        picks = of.usable
        return float(world.returns(of, picks, world.actions(net.head(of.features[picks])))[0].mean())


class TestGoals:
    def test_a_path_is_where_the_demonstration_was_and_then_where_it_ended(self) -> None:
        """Between two pictures halfway; past the end the goal stays, and still counts."""
        data = walks(0, 3)
        seen = ways(data)
        pick = np.flatnonzero(seen.samples.rows == LENGTH + 8)  # the second episode's ninth row
        goals, counts = seen.goals(pick, PATH)
        rows = np.minimum(LENGTH + 8 + np.arange(1, CHUNK + 1), 2 * LENGTH - 1)
        np.testing.assert_allclose(goals[0].numpy(), data.states[rows, :3], atol=1e-6)
        assert bool(counts.all())

    def test_an_end_is_the_last_of_them_at_every_tick(self) -> None:
        data = walks(0, 3)
        seen = ways(data)
        pick = np.flatnonzero(seen.samples.rows == LENGTH + 2)
        goals, _ = seen.goals(pick, END)
        np.testing.assert_allclose(
            goals[0].numpy(), np.tile(data.states[LENGTH + 2 + CHUNK, :3], (CHUNK, 1)), atol=1e-6
        )

    @pytest.mark.parametrize("goal", [PATH, END])
    def test_what_came_of_a_disturbance_is_nobodys_goal(self, goal: str) -> None:
        """The state that a disturbed row leads to answers to the disturbance."""
        data = walks(0, 2, disturbed=(5,))
        seen = ways(data)
        assert seen.clear[:3].tolist() == [5, 3, 1]
        assert seen.clear[3] == CHUNK, "afterwards the expert is on its own again"
        goals, counts = seen.goals(np.array([1]), goal)
        assert counts[0].tolist() == [True] * 3 + [False] * 5
        np.testing.assert_allclose(goals[0, 2].numpy(), data.states[5, :3], atol=1e-6)

    def test_a_picture_of_a_disturbed_row_teaches_nothing(self) -> None:
        seen = ways(walks(0, 2, disturbed=(4,)))
        assert 2 not in seen.usable
        assert 3 in seen.usable


class TestRewards:
    @pytest.mark.parametrize("goal", [PATH, END])
    def test_standing_still_is_paid_about_one_less_per_tick_and_the_demonstration_best(
        self, goal: str
    ) -> None:
        seen = ways(walks(0))
        world, picks = dream(seen, goal), seen.usable
        still = world.returns(seen, picks, torch.zeros(len(picks), CHUNK, A))[0]
        assert float(still.mean()) == pytest.approx(-CHUNK, rel=0.03)
        valid = torch.arange(CHUNK) < torch.from_numpy(seen.samples.valid[picks])[:, None]
        recorded = torch.from_numpy(seen.samples.actions(picks)) * valid[..., None]
        shown = world.returns(seen, picks, recorded)[0]
        assert float(shown.mean()) > 0.6 * float(still.mean())
        if goal == PATH:
            assert float(shown.min()) > -1e-3 * CHUNK

    def test_an_action_out_of_bounds_is_worth_the_bound(self) -> None:
        world = dream(ways(walks(0)))
        wild = torch.full((1, CHUNK, A), 1e3)
        assert world.actions(wild)[..., :3].unique().tolist() == [1.0]
        assert not world.actions(wild)[..., 3:].any(), "what no demonstration used stays as it was"

    def test_latents_that_never_change_are_refused(self) -> None:
        seen = ways(walks(0, 2))
        flat = replace(seen, latents=torch.zeros_like(seen.latents))
        with pytest.raises(ValueError, match="tells none of the frames of an episode apart"):
            path_baseline(flat, PATH)


LEARNING = HeadLearning(steps=150, seed=0, batch=64, learning_rate=3e-3, proximal=0.02, smooth=0.02)


class TestLearning:
    @pytest.mark.parametrize("goal", [PATH, END])
    def test_the_return_rises_on_frames_that_were_held_out_and_the_trunk_stays(self, goal: str) -> None:
        net = network()
        seen, unseen = (ways(walks(seed), net.inlet.in_features) for seed in (0, 1))
        world = dream(seen, goal)
        trunk = {name: value.clone() for name, value in net.state_dict().items()}
        before = paid(net, world, unseen)
        learn(net, world, seen, LEARNING)
        assert paid(net, world, unseen) > 0.5 * before
        for name, value in net.state_dict().items():
            head = name.partition(".")[0] in net.HEAD
            assert torch.equal(value, trunk[name]) != head, name
        assert all(weight.requires_grad for weight in net.parameters())

    def test_the_proximal_term_holds_it_to_what_it_said(self) -> None:
        seen = ways(walks(0), network().inlet.in_features)
        moved = []
        for weight in (0.02, 100.0):
            net = network()
            before = net.head(seen.features).detach()
            learn(net, dream(seen), seen, replace(LEARNING, proximal=weight, steps=60))
            moved.append(float((net.head(seen.features).detach() - before)[..., :3].abs().mean()))
        assert moved[1] < 0.2 * moved[0]

    def test_the_smooth_term_holds_back_what_jumps_from_tick_to_tick(self) -> None:
        """A chunk that was smooth stays so: what is added to it does not change much between two ticks."""
        seen = ways(walks(0), network().inlet.in_features)
        jumps = []
        for weight in (0.0, 10.0):
            net = network()
            before = net.head(seen.features).detach()
            learn(net, dream(seen), seen, replace(LEARNING, smooth=weight, steps=60))
            added = (net.head(seen.features).detach() - before)[..., :3]
            jumps.append(float(added.diff(dim=1).square().mean()))
        assert jumps[1] < 0.5 * jumps[0]

    def test_the_same_seed_gives_the_same_head(self) -> None:
        seen = ways(walks(0), network().inlet.in_features)
        heads = []
        for seed in (0, 0, 1):
            net = network()
            learn(net, dream(seen), seen, replace(LEARNING, steps=5, seed=seed))
            heads.append(net.outlet.weight.detach())
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])


def noise(spec, size: int = 96, cameras: tuple[str, ...] = ("front",), success: bool = True) -> EpisodeArrays:
    """Six episodes in the layout of the shipped models: enough to train on, if not to learn from."""
    rng, names = np.random.default_rng(0), proprio_names(spec)
    grounding = world_models.manifest.read_manifest(find(MODEL)).grounding_names[3:]
    length, count = 60, 6
    total = length * count
    actions = np.zeros((total, A), np.float32)
    actions[:, :3] = rng.uniform(-0.2, 0.2, (total, 3))
    return EpisodeArrays(
        images={name: rng.integers(0, 255, (total // 2, size, size, 3)).astype(np.uint8) for name in cameras},
        frame_rows=np.arange(0, total, 2),
        row_frame=np.arange(total) // 2,
        states=rng.normal(0, 0.1, (total, len(names))).astype(np.float32),
        actions=actions,
        expert_actions=actions,
        environment=rng.normal(0, 0.1, (total, len(grounding))).astype(np.float32),
        disturbed=np.zeros(total, bool),
        success=np.tile(success & (np.arange(length) > length - 5), count),
        starts=np.arange(0, total + 1, length),
        episode_tasks=np.zeros(count, np.int64),
        seeds=np.arange(count),
        tasks=(TASK,),
        state_names=names,
        action_names=EE_ACTION_NAMES,
        environment_names=grounding,
        robot=spec.name,
        dt=spec.dt,
    )


QUICK = PolicyHeadTraining(steps=3, batch=8, held_out=0.4)


@pytest.fixture
def recorded(spec, monkeypatch: pytest.MonkeyPatch):
    """recorded(**as `noise`): have the data sets hold that."""
    from wm_vla_ros.training import policy_files

    def record(**what) -> list[Path]:
        monkeypatch.setattr(
            policy_head_training, "load_demonstrations", lambda roots, cameras: noise(spec, **what)
        )
        monkeypatch.setattr(policy_files, "_describe", lambda root: {"name": root.name})
        return [Path("data/some")]

    return record


def test_the_saved_policy_opens_and_differs_in_its_head_alone(recorded, spec, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    report = train(recorded(), POLICY, MODEL, out, QUICK)
    base = policy_folder(Path(POLICY))
    before, after = (load_file(folder / "model.safetensors") for folder in (base, out))
    assert before.keys() == after.keys()
    for name, value in before.items():
        head = name.removeprefix("model.").partition(".")[0] in KeypointChunkNet.HEAD
        assert torch.equal(value, after[name]) != head, name
    for name in ("policy_preprocessor_step_3_normalizer_processor.safetensors", "config.json"):
        assert (out / name).read_bytes() == (base / name).read_bytes(), name
    policy = SlowPolicy(str(out), robot=spec, cameras=("front",))
    chunk = policy.infer({"front": np.zeros((96, 96, 3), np.uint8)}, np.zeros(18, np.float32), TASK)
    assert chunk.shape == (48, A)

    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest.training["base_policy"] == POLICY
    assert manifest.training["base_policy_sha256"] == sha256_of((base / "model.safetensors").read_bytes())
    assert manifest.training["world_model"] == MODEL
    assert manifest.training["world_model_sha256"] == sha256_of((find(MODEL) / MANIFEST_NAME).read_bytes())
    assert manifest.command == (
        "wm-vla train policy-head --policy so101_keypoint_chunk --world-model so101_latent_dynamics "
        "--dataset some --output tuned --steps 3 --goal path --proximal 1.0 --seed 0"
    )
    assert str(tmp_path) not in (out / "report.json").read_text()
    figures = {figure.name: figure for figure in report.figures}
    returns = {
        name: figures[f"head.return_{name}"].value for name in ("before", "after", "recorded", "still")
    }
    assert figures["head.gain"].value == pytest.approx(returns["after"] - returns["before"], abs=1e-4)
    assert {"head.l1_before", "head.l1_after", "head.tip_after", "head.cube_recorded"} <= set(figures)
    with pytest.raises(FileExistsError, match="never overwritten"):
        train(recorded(), POLICY, MODEL, out, QUICK)


class TestRefused:
    def test_a_policy_without_such_a_head(self, recorded, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "config.json").write_text(json.dumps({"type": "smolvla"}))
        with pytest.raises(PolicyRefused, match=r"other: policy type 'smolvla' has no head .*keypoint_chunk"):
            train(recorded(), str(other), MODEL, tmp_path / "out", QUICK)

    def test_images_of_another_size(self, recorded, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"images.front: the policy .* \(3, 96, 96\), .*\(3, 64, 64\)"):
            train(recorded(size=64), POLICY, MODEL, tmp_path / "out", QUICK)

    def test_a_camera_that_the_data_set_lacks(self, recorded, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no camera \['front'\]; it has \['wrist'\]"):
            train(recorded(cameras=("wrist",)), POLICY, MODEL, tmp_path / "out", QUICK)

    def test_a_world_model_without_torch_weights(self, recorded, tmp_path: Path) -> None:
        copy = tmp_path / MODEL
        shutil.copytree(find(MODEL), copy)
        told = json.loads((copy / MANIFEST_NAME).read_text())
        del told["files"]["weights.safetensors"]
        (copy / MANIFEST_NAME).write_text(json.dumps(told))
        with pytest.raises(ModelRefused, match=r"expected weights.safetensors for a torch runtime"):
            train(recorded(), POLICY, str(copy), tmp_path / "out", QUICK)

    def test_data_that_know_no_success(self, recorded, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"ends in success \(next.success\)"):
            train(recorded(success=False), POLICY, MODEL, tmp_path / "out", QUICK)
        assert not list(tmp_path.iterdir()), "nothing is left behind"

    def test_an_unknown_goal(self) -> None:
        with pytest.raises(ValueError, match="unknown goal 'there'; valid: path, end"):
            PolicyHeadTraining(goal="there")

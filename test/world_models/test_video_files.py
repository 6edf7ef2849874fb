"""An exported video model without torch: the same videos, and words for what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.vla.open_policy import open_policy
from wm_vla_ros.vla.policy_manifest import PolicyRefused
from wm_vla_ros.world_models.manifest import ModelRefused, read_files, read_manifest
from wm_vla_ros.world_models.video_files import VideoModel

torch = pytest.importorskip("torch")

from wm_vla_ros.world_models.modules import ModelConfig  # noqa: E402
from wm_vla_ros.world_models.video import Video, VideoOptions  # noqa: E402
from wm_vla_ros.world_models.video_decoder import drawn_size  # noqa: E402

GROUNDED = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")
TASKS = ("Touch the cube", "play")
OPTIONS = VideoOptions(frames=3, every=4)


@pytest.fixture(scope="module")
def exported(spec: RobotSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Video, Path]:
    from wm_vla_ros.world_models.export import Provenance, export

    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = ModelConfig((("front", 32, 40),), 18, 7, 6, 16, 32, 8, 4, TASKS)
    model = Video(config, OPTIONS).eval()
    for head in (model.inverse, model.goal_actions):
        head.deviation.fill_(0.3)
    for network in (model.sequence, model.subgoal, model.inverse, model.goal_actions):
        torch.nn.init.normal_(network.mlp[-1].weight, std=0.3)
    out = tmp_path_factory.mktemp("videos") / "small_video"
    export(model, out, spec, proprio_names(spec), GROUNDED, Provenance(("none",), "Apache-2.0", "a test"))
    return model, out


@pytest.fixture
def opened(exported: tuple[Video, Path]) -> VideoModel:
    manifest = read_manifest(exported[1])
    return VideoModel(manifest, read_files(exported[1], manifest))


def latents(count: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(count, 16))
    return ((values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)).astype(np.float32)


def test_a_sequence_and_the_actions_between_its_frames(
    exported: tuple[Video, Path], opened: VideoModel
) -> None:
    model, (start,) = exported[0], latents(1)
    assert (opened.tasks, opened.frames, opened.every, opened.ticks) == (TASKS, 3, 4, 12)
    found = opened.imagine(start, "  touch the cube.")
    with torch.no_grad():
        z = torch.from_numpy(start[None])
        ahead = model.sequence(z, torch.tensor([0]))[0]
        steps = torch.cat([z, ahead])
        actions = model.inverse(steps[:-1], steps[1:]).flatten(0, 1)
    np.testing.assert_allclose(found.latents, ahead, atol=1e-4)
    np.testing.assert_allclose(found.actions, actions, atol=1e-4)
    assert found.actions.shape == (12, 7)
    other = opened.imagine(start, "play")
    assert np.abs(other.latents - found.latents).max() > 1e-3


def test_a_subgoal_and_actions_towards_it(exported: tuple[Video, Path], opened: VideoModel) -> None:
    model, (start,) = exported[0], latents(1)
    found = opened.imagine(start, "play", "subgoal")
    with torch.no_grad():
        z = torch.from_numpy(start[None])
        goal = model.subgoal(z, torch.tensor([1]))[0]
        actions = model.goal_actions(z, goal)[0]
    assert (found.latents.shape, found.actions.shape) == ((1, 16), (12, 7))
    np.testing.assert_allclose(found.latents, goal, atol=1e-4)
    np.testing.assert_allclose(found.actions, actions, atol=1e-4)


def test_images_of_latents(exported: tuple[Video, Path], opened: VideoModel) -> None:
    with torch.no_grad():
        expected = exported[0].decoder(torch.from_numpy(latents(5))).clamp(0, 1).numpy() * 255
    images = opened.decoder.draw(latents(5))
    assert (images.shape, images.dtype) == ((5, 32, 40, 3), np.uint8)
    assert np.abs(images - expected).max() <= 0.51


def test_what_is_not_known_is_named(opened: VideoModel) -> None:
    (start,) = latents(1)
    with pytest.raises(ValueError, match="unknown instruction 'dance'; valid: Touch the cube; play"):
        opened.imagine(start, "dance")
    with pytest.raises(ValueError, match="mode of video: expected one of sequence, subgoal, got 'film'"):
        opened.imagine(start, "play", "film")
    with pytest.raises(ValueError, match=r"latent: expected \(16,\), got \(3,\)"):
        opened.imagine(start[:3], "play")


class TestAsPolicy:
    @pytest.mark.parametrize("mode", ["sequence", "subgoal"])
    def test_its_chunk_is_what_it_sees_coming(
        self, exported: tuple[Video, Path], opened: VideoModel, mode: str, spec: RobotSpec
    ) -> None:
        policy = open_policy(f"{mode}:{exported[1]}", robot=spec, cameras=("front", "wrist"))
        assert (policy.cameras, policy.chunk_size, policy.instructions) == (("front",), 12, TASKS)
        images = {"front": np.full((32, 40, 3), 80, np.uint8)}
        state = np.zeros(18, np.float32)
        latent = world_models.load(exported[1]).encode(images, state)
        expected = opened.imagine(latent, "play", mode).actions
        np.testing.assert_allclose(policy.infer(images, state, "play"), expected, atol=1e-5)

    def test_a_model_without_videos_or_cameras_is_refused(self, exported: tuple[Video, Path]) -> None:
        with pytest.raises(
            PolicyRefused, match="so101_jepa: expected a model of family video, found one without"
        ):
            open_policy("sequence:so101_jepa")
        with pytest.raises(PolicyRefused, match=r"looks through \['front'\]: cameras are \['wrist'\]"):
            open_policy(f"subgoal:{exported[1]}", cameras=("wrist",))


def test_a_model_of_another_family_makes_no_videos() -> None:
    folder = world_models.registry.find("so101_jepa")
    manifest = read_manifest(folder)
    with pytest.raises(ModelRefused, match="found one without .*decoder.onnx"):
        VideoModel(manifest, read_files(folder, manifest))


@pytest.mark.parametrize(
    ("camera", "drawn"),
    [((96, 96), (48, 48)), ((32, 40), (32, 40)), ((224, 224), (56, 56)), ((68, 68), (68, 68))],
)
def test_decoded_images_are_a_whole_share_of_the_cameras(camera: tuple, drawn: tuple) -> None:
    assert drawn_size(*camera) == drawn

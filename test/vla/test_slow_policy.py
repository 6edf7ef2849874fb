"""The adapter: what a policy is given, what comes out, and which checkpoints it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.vla.policy import SlowPolicy, resolve
from wm_vla_ros.vla.policy_manifest import MANIFEST_NAME, PolicyRefused

CHUNK, EXECUTE, SIZE, STATE = 8, 4, 32, 18
TEXT = "touch the red cube"


@pytest.fixture(scope="module")
def policy(policy_folder: Path) -> SlowPolicy:
    return SlowPolicy(str(policy_folder), robot=load_robot("so101"), cameras=("front", "wrist"))


def image(value: int = 100, size: int = SIZE) -> np.ndarray:
    picture = np.full((size, size, 3), value, np.uint8)
    picture[: size // 4, : size // 4] = 250
    return picture


def test_it_says_what_it_needs_and_gives_a_chunk(policy: SlowPolicy) -> None:
    assert (policy.cameras, policy.chunk_size, policy.n_action_steps) == (("front",), CHUNK, EXECUTE)
    assert policy.dt == 0.02
    assert policy.instructions == (TEXT,)
    chunk = policy.infer({"front": image(), "wrist": image(3)}, np.zeros(STATE, np.float32), TEXT)
    assert chunk.shape == (CHUNK, 7)
    assert chunk.dtype == np.float32
    again = policy.infer({"front": image()}, np.zeros(STATE, np.float32), TEXT)
    np.testing.assert_array_equal(chunk, again)
    other = policy.infer({"front": image(20)}, np.zeros(STATE, np.float32), TEXT)
    assert np.abs(chunk - other).max() > 0


def test_loading_prints_nothing_on_stdout(policy_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LeRobot prints while loading; with --json that line would break the one object on stdout."""
    SlowPolicy(str(policy_folder))
    assert capsys.readouterr().out == ""


def test_a_larger_image_of_the_same_shape_is_scaled(policy: SlowPolicy) -> None:
    state = np.zeros(STATE, np.float32)
    exact = policy.infer({"front": image()}, state, TEXT)
    scaled = policy.infer({"front": image(size=4 * SIZE)}, state, TEXT)
    np.testing.assert_allclose(exact, scaled, atol=1e-5)


@pytest.mark.parametrize(
    "images, state, text, message",
    [
        ({"wrist": image()}, np.zeros(STATE), TEXT, "needs camera 'front', got .'wrist'"),
        ({"front": image()[:16]}, np.zeros(STATE), TEXT, "another aspect ratio"),
        ({"front": image() / 255.0}, np.zeros(STATE), TEXT, "uint8 image, got float64"),
        ({"front": image()}, np.zeros(6), TEXT, r"state of 18 numbers, got shape \(6,\)"),
        (
            {"front": image()},
            np.zeros(STATE),
            "make tea",
            "unknown words .*valid instructions: touch the red",
        ),
    ],
)
def test_observations_that_do_not_fit_are_refused(policy, images, state, text, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy.infer(images, state, text)


def test_an_output_that_is_not_finite_never_leaves(policy: SlowPolicy) -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        policy.infer({"front": image()}, np.full(STATE, np.nan, np.float32), TEXT)


def test_unknown_names_are_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match="unknown policy 'nonsense'; available: "):
        SlowPolicy("nonsense")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyRefused, match=r"no config\.json"):
        SlowPolicy(str(tmp_path / "empty"))
    assert resolve("someone/some_policy") == "someone/some_policy"


def test_a_device_that_is_not_there_is_refused(policy_folder: Path) -> None:
    with pytest.raises(PolicyRefused, match="unknown device 'tpu'; valid: cpu, cuda, auto"):
        SlowPolicy(str(policy_folder), device="tpu")


def test_cameras_that_the_stack_lacks_are_named(policy_folder: Path) -> None:
    with pytest.raises(PolicyRefused, match=r"observation\.images\.front: cameras are \['top'\]"):
        SlowPolicy(str(policy_folder), cameras=("top",))


def _changed(policy_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(policy_folder, tmp_path / "changed"))


def test_another_robots_policy_is_refused(policy_folder: Path) -> None:
    robot = load_robot("so101")
    for change, message in (
        ({"name": "other"}, "robot: expected 'other'"),
        ({"translation_scale": 0.05}, "translation_scale: expected 0.05"),
        ({"dt": 0.05}, "dt: expected 0.05"),
    ):
        with pytest.raises(PolicyRefused, match=message):
            SlowPolicy(str(policy_folder), robot=replace(robot, **change))


def test_a_file_that_was_changed_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    folder = _changed(policy_folder, tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(PolicyRefused, match=r"model\.safetensors: expected sha256"):
        SlowPolicy(str(folder))


def test_a_manifest_that_is_not_one_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    folder = _changed(policy_folder, tmp_path)
    raw = json.loads((folder / MANIFEST_NAME).read_text())
    for text, message in (
        ("{", "expected JSON"),
        ("[]", "found list"),
        (json.dumps({k: v for k, v in raw.items() if k != "robot"}), "expected the fields"),
        (json.dumps(raw | {"format": 9}), "expected format 1, found 9"),
        (json.dumps(raw | {"files": {"../config.json": "0"}}), "which is not in changed"),
    ):
        (folder / MANIFEST_NAME).write_text(text)
        with pytest.raises(PolicyRefused, match=message):
            SlowPolicy(str(folder))


def test_features_that_do_not_fit_are_all_named(policy_folder: Path, tmp_path: Path) -> None:
    """A checkpoint of another arm: joints instead of our action, and a feature that nobody here measures."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import make_policy_config, make_pre_post_processors

    from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy

    config = make_policy_config(
        "keypoint_chunk",
        chunk_size=4,
        n_action_steps=2,
        vocabulary=["go"],
        channels=16,
        blocks=1,
        keypoints=2,
        hidden=16,
        layers=1,
        device="cpu",
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
            "observation.effort": PolicyFeature(FeatureType.STATE, (6,)),
            "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
    )
    torch.manual_seed(0)
    KeypointChunkPolicy(config).save_pretrained(tmp_path)
    for pipeline in make_pre_post_processors(config, dataset_stats={}):
        pipeline.save_pretrained(tmp_path)
    with pytest.raises(PolicyRefused) as refusal:
        SlowPolicy(str(tmp_path), robot=load_robot("so101"), cameras=("front",))
    text = str(refusal.value)
    for part in (
        "action: expected (7,), found (6,)",
        "observation.state: expected (18,), found (6,)",
        "observation.images.top: cameras are ['front']",
        "observation.effort: the stack has no such feature",
    ):
        assert part in text

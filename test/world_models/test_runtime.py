"""The runtime computes what the torch module computes, names what does not fit, and needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.world_models.onnx_runtime import OnnxWorldModel


@pytest.fixture(scope="module")
def model(exported: Path) -> OnnxWorldModel:
    return world_models.load(exported)


def sample(count: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count + horizon)
    latents = rng.normal(size=(count, 16)).astype(np.float32)
    return latents, rng.uniform(-1, 1, (count, horizon, 7)).astype(np.float32)


def observation() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(3)
    return {"front": rng.integers(0, 256, (32, 40, 3), np.uint8)}, rng.normal(size=18).astype(np.float32)


def test_encode_agrees_with_torch(model: OnnxWorldModel, torch_model) -> None:
    import torch

    images, proprio = observation()
    with torch.no_grad():
        expected = torch_model.encoder(
            [torch.from_numpy(images["front"])[None]], torch.from_numpy(proprio)[None]
        )
    np.testing.assert_allclose(model.encode(images, proprio), expected[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 64])
def test_rollout_agrees_with_torch(model: OnnxWorldModel, torch_model, count: int) -> None:
    import torch

    latents, actions = sample(count, 10)
    with torch.no_grad():
        expected = torch_model.dynamics.rollout(torch.from_numpy(latents), torch.from_numpy(actions))
    np.testing.assert_allclose(model.rollout(latents, actions), expected.numpy(), atol=1e-4)


def test_ground_agrees_with_torch(model: OnnxWorldModel, torch_model) -> None:
    import torch

    latents, _ = sample(5, 1)
    with torch.no_grad():
        expected = torch_model.grounding(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(model.ground(latents), expected, atol=1e-4)
    np.testing.assert_allclose(model.ground(latents[0]), expected[0], atol=1e-4)


@pytest.mark.parametrize("horizon", [1, 3, 10, 13, 20, 27])
def test_rollout_is_repeated_predict(model: OnnxWorldModel, horizon: int) -> None:
    """Any horizon: below the unrolled graph's, at it, and past it with a remainder."""
    latents, actions = sample(4, horizon)
    rolled = model.rollout(latents, actions)
    assert rolled.shape == (4, horizon, 16)
    state = latents
    for tick in range(horizon):
        state = model.predict(state, actions[:, tick])
        np.testing.assert_allclose(rolled[:, tick], state, atol=1e-4)


def test_no_actions_give_no_latents(model: OnnxWorldModel) -> None:
    latents, _ = sample(4, 1)
    assert model.rollout(latents, np.zeros((4, 0, 7), np.float32)).shape == (4, 0, 16)


def test_rows_do_not_influence_each_other(model: OnnxWorldModel) -> None:
    latents, actions = sample(8, 10)
    together = model.rollout(latents, actions)
    np.testing.assert_allclose(together[5:6], model.rollout(latents[5:6], actions[5:6]), atol=1e-5)


def test_strided_and_double_inputs_are_taken(model: OnnxWorldModel) -> None:
    latents, actions = sample(8, 10)
    expected = model.rollout(latents[::2], actions[::2])
    np.testing.assert_allclose(
        model.rollout(latents.astype(np.float64)[::2], actions.astype(np.float64)[::2]), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "latents, actions, message",
    [
        ((4, 15), (4, 10, 7), r"latents: expected \(N, 16\), got \(4, 15\)"),
        ((16,), (1, 10, 7), r"latents: expected \(N, 16\), got \(16,\)"),
        ((4, 16), (4, 10, 6), r"actions: expected \(4, H, 7\), got \(4, 10, 6\)"),
        ((4, 16), (3, 10, 7), r"actions: expected \(4, H, 7\), got \(3, 10, 7\)"),
        ((4, 16), (4, 7), r"actions: expected \(4, H, 7\), got \(4, 7\)"),
    ],
)
def test_wrong_shapes_are_named(
    model: OnnxWorldModel, latents: tuple[int, ...], actions: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.rollout(np.zeros(latents, np.float32), np.zeros(actions, np.float32))


def test_predict_names_a_wrong_shape(model: OnnxWorldModel) -> None:
    with pytest.raises(ValueError, match=r"actions: expected \(2, 7\), got \(2, 6\)"):
        model.predict(np.zeros((2, 16), np.float32), np.zeros((2, 6), np.float32))


def test_missing_camera_is_named(model: OnnxWorldModel) -> None:
    images, proprio = observation()
    with pytest.raises(ValueError, match=r"no image of camera 'front'; got \['wrist'\]"):
        model.encode({"wrist": images["front"]}, proprio)


@pytest.mark.parametrize(
    "image",
    [np.zeros((40, 32, 3), np.uint8), np.zeros((32, 40, 3), np.float32), np.zeros((32, 40), np.uint8)],
)
def test_wrong_image_is_named(model: OnnxWorldModel, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"camera 'front': expected \(32, 40, 3\) uint8, got "):
        model.encode({"front": image}, np.zeros(18, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_proprio_that_is_not_finite_is_refused(model: OnnxWorldModel, bad: float) -> None:
    images, proprio = observation()
    proprio[4] = bad
    with pytest.raises(ValueError, match="proprio: expected finite values"):
        model.encode(images, proprio)


def test_proprio_of_another_length_is_refused(model: OnnxWorldModel) -> None:
    images, proprio = observation()
    with pytest.raises(ValueError, match=r"proprio: expected \(18,\) values, got \(17,\)"):
        model.encode(images, proprio[:-1])


def test_other_cameras_and_views_of_images_are_taken(model: OnnxWorldModel) -> None:
    images, proprio = observation()
    flipped = images["front"][:, ::-1]
    expected = model.encode({"front": np.ascontiguousarray(flipped)}, proprio)
    np.testing.assert_array_equal(model.encode({"front": flipped, "wrist": flipped}, proprio), expected)


def test_no_torch_in_the_process(exported: Path) -> None:
    """The fast node's memory and start-up time depend on it."""
    script = (
        "import sys, numpy as np\n"
        "from wm_vla_ros import world_models\n"
        "model = world_models.load(sys.argv[1])\n"
        "z = model.encode({'front': np.zeros((32, 40, 3), np.uint8)}, np.zeros(18, np.float32))\n"
        "model.ground(model.rollout(z[None], np.zeros((1, 12, 7), np.float32)))\n"
        "heavy = {'torch', 'mujoco', 'lerobot', 'rclpy', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script, str(exported)], check=True, timeout=120, env={**os.environ})

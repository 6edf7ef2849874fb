"""A goal encoder on a toy: a picture tells where the dot is, and nothing of what cannot be seen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wm_vla_ros.training.goal_encoder_training import GoalEncoderTraining, GoalImageEncoder, fit, told
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.modules import Vision

SIZE, ROWS = 32, 400


class Toy:
    """Latents of 4: the dot's column and row in +-1, a number that no picture shows, a constant."""

    latent_dim = 4
    manifest = SimpleNamespace(cameras={"front": (SIZE, SIZE)}, latent_dim=4)

    def ground(self, latents: np.ndarray) -> np.ndarray:
        return 0.1 * latents[..., :2]


@pytest.fixture(scope="module")
def learned() -> tuple[np.ndarray, np.ndarray]:
    """(guess, truth) of unseen pictures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    at = rng.integers(3, SIZE - 3, (ROWS, 2))
    images = np.full((ROWS, SIZE, SIZE, 3), 90, np.uint8)
    for image, (column, row) in zip(images, at, strict=True):
        image[row - 2 : row + 3, column - 2 : column + 3] = (220, 40, 40)
    latents = np.column_stack([at / (SIZE / 2) - 1, rng.normal(size=ROWS), np.full(ROWS, 0.7)]).astype(
        np.float32
    )
    data = SimpleNamespace(images={"front": images}, row_frame=np.arange(ROWS))
    vision = {f"0.{name}": value for name, value in Vision(SIZE, SIZE, 16, 8).state_dict().items()}
    net = GoalImageEncoder(Toy.manifest, vision)
    used = np.arange(ROWS - 100)
    training = GoalEncoderTraining(steps=250, batch=32, learning_rate=3e-3)
    fit(net, Toy(), data, used, torch.from_numpy(latents[used]), training)
    with torch.no_grad():
        guess = net(torch.from_numpy(images[-100:])).numpy()
    return guess, latents[-100:]


def test_what_is_seen_is_told_and_what_is_not_has_no_weight(learned: tuple[np.ndarray, np.ndarray]) -> None:
    guess, truth = learned
    precision = told(guess, truth)
    assert precision[:2].min() > 0.9
    assert precision[2] < 0.2
    assert precision[3] == 0.0
    assert np.abs(guess[:, :2] - truth[:, :2]).mean() < 0.1


def test_share_of_variance() -> None:
    truth = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [4.0, 1.0, 2.0], [6.0, 1.0, 0.0]], np.float32)
    guess = truth.copy()
    guess[:, 2] = [0.0, 2.0, 0.0, 2.0]  # worse than the mean: no weight below 0
    np.testing.assert_allclose(told(guess, truth), [1.0, 0.0, 0.0])


def test_vision_of_another_kind_is_refused() -> None:
    with pytest.raises(
        ModelRefused, match="expected the cameras' own convolutions, found '0.trunk.0.weight'"
    ):
        GoalImageEncoder(Toy.manifest, {"0.body.weight": torch.zeros(1)})

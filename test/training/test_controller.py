"""A controller that learns in a dream: of a point that goes where it is told, more or less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wm_vla_ros.training import controller as training_controller
from wm_vla_ros.training.controller import ControllerTraining, Dreams, evolve, train
from wm_vla_ros.world_models.controller import MOST, Controller, read_controller
from wm_vla_ros.world_models.manifest import ModelRefused

SETTINGS = ControllerTraining(generations=60, population=12, starts=8, horizon=20, spread=0.1)


class Point:
    """Latent (B, 3): a position in tenths of a metre. A tick moves it by 2 cm times the action, and by luck.

    seen: temperatures that were asked for.
    """

    def __init__(self) -> None:
        self.seen: set[float] = set()

    def dream(self, latent: Tensor, action: Tensor, temperature: float = 1.0) -> Tensor:
        self.seen.add(temperature)
        return latent + 0.2 * action[:, :3] + 0.01 * temperature**0.5 * torch.randn_like(latent)


@pytest.fixture
def dreams() -> Dreams:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    starts, goals = (
        2 * torch.rand(64, 3, generator=draw) - 1,
        0.1 * (2 * torch.rand(64, 3, generator=draw) - 1),
    )
    return Dreams(Point(), (0.1 * torch.eye(3), torch.zeros(3)), starts, goals, 7)


def test_what_it_learns_in_the_dream_reaches(dreams: Dreams) -> None:
    """Between doing nothing and the controller that knows: straight at the goal, as fast as it may."""
    best, history = evolve(dreams, SETTINGS)
    knowing = torch.zeros(3, dreams.size // 3)
    for axis in range(3):
        knowing[axis, axis], knowing[axis, 3 + axis] = -1.0, 10.0
    knowing[:, :-1] *= dreams.scale
    knowing[:, -1] = 10.0 * dreams.mean[3:] - dreams.mean[:3]
    candidates = torch.stack([torch.from_numpy(best).float(), torch.zeros(dreams.size), knowing.flatten()])
    learned, still, known = dreams.returns(candidates, torch.arange(64), 20, 1.0).tolist()
    assert still < learned < known + 1e-3
    assert learned - still > 0.8 * (known - still)
    assert np.mean(history[-5:]) > np.mean(history[:5])
    assert dreams.dynamics.seen == {1.0}


def test_same_seed_same_controller(dreams: Dreams) -> None:
    few = replace(SETTINGS, generations=4, temperature=1.3)
    first, again, other = (evolve(dreams, replace(few, seed=seed))[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert dreams.dynamics.seen == {1.3}


def test_weights_over_normalised_inputs_are_folded_into_weights_over_inputs(dreams: Dreams) -> None:
    candidate = torch.randn(1, dreams.size, generator=torch.Generator().manual_seed(1))
    weight, bias = dreams.linear(candidate)
    inputs = torch.cat([dreams.starts, dreams.goals], 1)
    parts = candidate.view(3, -1)
    expected = (inputs - dreams.mean) / dreams.scale @ parts[:, :-1].T + parts[:, -1]
    torch.testing.assert_close(inputs @ weight[0].T + bias[0], expected, rtol=1e-4, atol=1e-4)


class TestFile:
    MODEL = SimpleNamespace(encoder_id="mine", latent_dim=5)

    def controller(self) -> Controller:
        rng = np.random.default_rng(0)
        weight, bias = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=3).astype(np.float32)
        return Controller(weight, bias, "mine")

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        written = self.controller()
        written.write(tmp_path / "new")
        read = read_controller(tmp_path / "new", self.MODEL)
        latent, goal = np.linspace(-1, 1, 5, dtype=np.float32), np.array([0.1, 0.0, 0.02], np.float32)
        np.testing.assert_array_equal(read.act(latent, goal), written.act(latent, goal))
        expected = np.clip(written.weight @ [*latent, *goal] + written.bias, -MOST, MOST)
        np.testing.assert_allclose(read.act(latent, goal)[:3], expected, rtol=1e-5)
        assert read.act(latent, goal)[3:].tolist() == [0.0] * 4
        with pytest.raises(FileExistsError, match="never overwritten"):
            written.write(tmp_path / "new")

    def test_another_models_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelRefused, match="expected controller.safetensors in .*, found none"):
            read_controller(tmp_path, self.MODEL)
        self.controller().write(tmp_path)
        with pytest.raises(ModelRefused, match="expected latents of other, found mine"):
            read_controller(tmp_path, SimpleNamespace(encoder_id="other", latent_dim=5))
        with pytest.raises(ModelRefused, match=r"weight: expected shape \(3, 9\), found \(3, 8\)"):
            read_controller(tmp_path, SimpleNamespace(encoder_id="mine", latent_dim=6))


def test_a_family_that_cannot_dream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"can dream \(rssm, mdn_rnn\), found latent_dynamics"):
        train([Path("none")], "so101_latent_dynamics", tmp_path / "c", ControllerTraining())


def test_a_controller_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_controller.world_models, "load", None)  # refused before anything is read
    (tmp_path / "controller.safetensors").write_bytes(b"")
    with pytest.raises(FileExistsError, match="holds a controller already"):
        train([Path("none")], "so101_rssm", tmp_path, ControllerTraining())

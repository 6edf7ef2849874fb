"""What is drawn oftener, what it weighs, and what imagined windows are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.training.imagined import Imagining
from wm_vla_ros.training.replay import LEAST, Replay
from wm_vla_ros.training.world_model_loss import LossConfig, Losses
from wm_vla_ros.world_models.family import Window
from wm_vla_ros.world_models.latent_dynamics import LatentDynamics
from wm_vla_ros.world_models.modules import ModelConfig


@given(
    st.lists(st.floats(0.01, 100.0), min_size=3, max_size=12),
    st.floats(0.1, 1.0),
    st.floats(0.0, 1.0),
)
def test_importance_weights_undo_the_drawing(errors: list[float], alpha: float, progress: float) -> None:
    """At the end of a stage, beta 1, every window's share of draws times its weight is the same."""
    replay, starts = Replay(40, alpha), np.arange(5, 5 + len(errors))
    replay.learn(starts, np.array(errors, np.float32))
    rows, weights = replay.draw(starts, 4000, progress, np.random.default_rng(0))
    assert set(rows) <= set(starts)
    assert weights.max() == pytest.approx(1.0)
    chance = replay.powers[starts] / replay.powers[starts].sum()
    beta = 0.4 + 0.6 * progress
    expected = (len(starts) * chance[rows - 5]) ** -beta
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-4)
    counted = np.bincount(rows - 5, minlength=len(errors)) / 4000
    np.testing.assert_allclose(counted, chance, atol=0.05)


def test_an_error_counts_by_its_share_of_the_mean() -> None:
    replay = Replay(4, 1.0)
    replay.learn(np.array([0, 1]), np.array([3.0, 1.0], np.float32))
    assert replay.powers.tolist() == [1.5, 0.5, 1.0, 1.0]
    replay.learn(np.array([2]), np.array([0.0], np.float32))
    assert replay.powers[2] == LEAST
    again = Replay(4, 1.0)
    again.restore({name: value.clone() for name, value in replay.tensors().items()})
    assert again.powers.tolist() == replay.powers.tolist()
    with pytest.raises(ValueError, match="replay: expected 3 rows, found 4"):
        Replay(3, 1.0).restore(replay.tensors())


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1.1, float("nan")])
def test_an_exponent_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="priority: expected more than 0 and at most 1"):
        Replay(3, alpha)


NAMES = ("tip.x", "tip.y", "tip.z")


def model() -> LatentDynamics:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    one = LatentDynamics(ModelConfig((), 3, 2, 3, latent_dim=16, hidden=32))
    torch.nn.init.normal_(one.dynamics.out.weight, std=0.3)
    return one


def test_weights_of_one_leave_the_loss_as_it_is() -> None:
    one, losses = model(), Losses(NAMES, LossConfig(), torch.device("cpu"))
    window = Window(torch.rand(5, 4, 2), torch.rand(5, 5, 3))
    latent, targets = one.encoder([], torch.rand(5, 3)), torch.rand(5, 2, 16)
    ticks = torch.tensor([[2, 4]]).expand(5, -1)
    plain, _ = losses.total(one, latent, window, targets, ticks)
    weighed, _ = losses.total(one, latent, replace(window, weight=torch.ones(5)), targets, ticks)
    torch.testing.assert_close(weighed, plain)
    assert losses.errors.shape == (5,)
    alone = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    _, terms = losses.total(one, latent, replace(window, weight=alone), targets, ticks)
    just = Window(window.actions[2:3], window.positions[2:3])
    _, single = losses.total(one, latent[2:3], just, targets[2:3], ticks[2:3])
    assert 5 * terms["consistency"] == pytest.approx(single["consistency"], rel=1e-5)
    assert 5 * terms["predicted"] == pytest.approx(single["predicted"], rel=1e-5)


def test_imagined_windows_stay_within_what_was_recorded_and_follow_slowly() -> None:
    one = model()
    actions = np.random.default_rng(0).uniform(-2, 3, (100, 2)).astype(np.float32)
    imagining = Imagining(one, actions, 0.25)
    recorded = torch.from_numpy(actions[:60].reshape(6, 10, 2))
    start = one.encoder([], torch.rand(6, 3))
    window = imagining.windows(start, recorded)
    assert window.latents.shape == (6, 10, 16)
    assert float(window.actions.min()) >= actions.min()
    assert float(window.actions.max()) <= actions.max()
    assert float((window.actions - recorded).abs().mean()) > 0.1
    torch.testing.assert_close(window.latents, one.dynamics.rollout(start, window.actions).detach())
    losses = Losses(NAMES, LossConfig(), torch.device("cpu"))
    assert float(losses.imagined(one, window).detach()) == pytest.approx(0.0, abs=1e-9)
    with torch.no_grad():
        one.dynamics.out.weight[:8] += 0.4
    imagining.follow(one)
    slow = imagining.parts["imagining.dynamics"].out.weight
    moved = one.dynamics.out.weight[:8] - slow[:8]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.3))
    assert float(losses.imagined(one, window).detach()) > 0.01

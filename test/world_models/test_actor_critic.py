"""The file of actor and critic: that numpy computes what torch learned, and what is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from wm_vla_ros import world_models
from wm_vla_ros.lab.actor_critic_training import tensors
from wm_vla_ros.lab.dream import DreamConfig, Dreamer
from wm_vla_ros.lab.goal_dream import GoalConditionedState, GoalDream
from wm_vla_ros.world_models.actor_critic import ACTOR_CRITIC_FILE, ActorCritic
from wm_vla_ros.world_models.manifest import ModelRefused, read_manifest, write_with

D, A = 16, 7


@pytest.fixture(scope="module")
def dreamer(torch_model) -> Dreamer:
    """Random weights, the norms' and the critic's output too: zeros would hide what is left out."""
    torch.manual_seed(0)
    weight, bias = (each.detach().numpy() for each in torch_model.grounding.folded())
    low, high = np.linspace(-0.5, -0.1, A), np.linspace(0.0, 0.6, A)
    low[3] = high[3] = 0.2
    dream = GoalDream(torch_model.dynamics, weight, bias, low.astype(np.float32), high.astype(np.float32))
    dreamer = Dreamer(dream, DreamConfig(hidden=24))
    with torch.no_grad():
        for network in (dreamer.actor, dreamer.slow_critic):
            for values in network.parameters():
                values.normal_(std=0.3)
    return dreamer


@pytest.fixture(scope="module")
def stored(dreamer: Dreamer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors(dreamer, dreamer.model).items()}


@pytest.fixture(scope="module")
def manifest(exported):
    return read_manifest(exported)


def test_numpy_computes_what_torch_learned(manifest, dreamer: Dreamer, stored) -> None:
    rng = np.random.default_rng(1)
    latents, goal = rng.normal(size=(9, D)).astype(np.float32), rng.normal(size=D).astype(np.float32)
    learned = ActorCritic(manifest, save(stored))
    errand = GoalConditionedState(torch.from_numpy(latents), torch.from_numpy(np.tile(goal, (9, 1))))
    with torch.no_grad():
        action = dreamer.model.scaled(dreamer.actor(errand.features).mean).numpy()
        value = dreamer.slow_critic.value(errand.features).numpy()
    np.testing.assert_allclose(learned.act(latents, goal), action, atol=1e-5)
    np.testing.assert_allclose(learned.value(latents, goal), value, rtol=1e-3)
    assert np.ptp(action[:, 0]) > 0.01
    np.testing.assert_allclose(action[:, 3], 0.2, atol=1e-6)


def test_a_latent_that_is_no_number_has_no_value(manifest, stored) -> None:
    latents = np.ones((3, D), np.float32)
    latents[1, 2] = np.nan
    value = ActorCritic(manifest, save(stored)).value(latents, np.zeros(D, np.float32))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"actor.low": None}, "actor.low: expected (7,), found None"),
        ({"actor.high": np.zeros(6, np.float32)}, "actor.high: expected (7,), found (6,)"),
        ({"critic.bins": np.zeros(1, np.float32)}, "critic.bins: expected (bins,), at least 2, found (1,)"),
        ({"actor.0.weight": None}, "actor.0.weight: expected (32, hidden), found None"),
        ({"actor.0.weight": np.zeros((9, 24), np.float32)}, "expected (32, 24), found (9, 24)"),
        ({"critic.4.bias": None}, "critic.4.bias: expected (24,), found None"),
        ({"critic.6.weight": np.zeros((24, 3), np.float32)}, "expected (24, 101), found (24, 3)"),
        ({"actor.6.bias": np.full(7, np.inf, np.float32)}, "expected finite values"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(manifest, stored, change, words: str) -> None:
    changed = {name: value for name, value in (stored | change).items() if value is not None}
    with pytest.raises(ModelRefused, match=re.escape(words)):
        ActorCritic(manifest, save(changed))


def test_a_model_has_the_actor_that_its_manifest_names_and_no_other(
    exported: Path, tmp_path: Path, stored
) -> None:
    assert world_models.load(exported).actor_critic is None
    folder = Path(shutil.copytree(exported, tmp_path / "small_model"))
    (folder / ACTOR_CRITIC_FILE).write_bytes(save(stored))
    assert world_models.load(folder).actor_critic is None, "not named: not loaded"
    out = tmp_path / "with_actor"
    manifest = write_with(out, exported, read_manifest(exported), ACTOR_CRITIC_FILE, save(stored))
    loaded = world_models.load(out, encoder_id=read_manifest(exported).encoder_id)
    assert loaded.actor_critic is not None
    assert read_manifest(out) == manifest
    (out / ACTOR_CRITIC_FILE).write_bytes(save(stored)[:-4] + b"\0\0\0\0")
    with pytest.raises(ModelRefused, match=f"sha256 of {ACTOR_CRITIC_FILE}"):
        world_models.load(out)

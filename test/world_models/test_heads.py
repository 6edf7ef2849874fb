"""The heads' file: what it computes, and what is refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from wm_vla_ros import world_models
from wm_vla_ros.config import defaults
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.objective import Objective
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.world_models.heads import HEADS_FILE, Heads, error_features
from wm_vla_ros.world_models.manifest import ModelRefused, read_manifest, sha256_of, write_model

D, A, HIDDEN, EMBEDDED = 16, 7, 12, 9


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = {"temporal.embed": rng.normal(0, D**-0.5, (1, D, EMBEDDED)).astype(np.float32)}
    for head, members, inputs in (("temporal", 1, EMBEDDED), ("error", 3, 2 * D + 2 * A)):
        for number, (size, outputs) in enumerate(((inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1))):
            scale = size**-0.5
            out[f"{head}.{number}.weight"] = rng.normal(0, scale, (members, size, outputs)).astype(np.float32)
            out[f"{head}.{number}.bias"] = rng.normal(0, 0.1, (members, 1, outputs)).astype(np.float32)
    return out


@pytest.fixture(scope="module")
def manifest(exported):
    return read_manifest(exported)


def by_hand(weights: dict[str, np.ndarray], head: str, member: int, x: np.ndarray) -> np.ndarray:
    for number in range(3):
        x = x @ weights[f"{head}.{number}.weight"][member] + weights[f"{head}.{number}.bias"][member]
        x = np.maximum(x, 0.0) if number < 2 else x
    return x[:, 0]


def test_ticks_are_what_the_layers_say_and_never_negative(manifest) -> None:
    rng, weights = np.random.default_rng(1), tensors()
    heads = Heads(manifest, save(weights))
    latents, goal = rng.normal(size=(9, D)).astype(np.float32), rng.normal(size=D).astype(np.float32)
    logs = by_hand(weights, "temporal", 0, np.abs((latents - goal) @ weights["temporal.embed"][0]))
    np.testing.assert_allclose(heads.ticks(latents, goal), np.expm1(np.maximum(logs, 0.0)), rtol=1e-5)
    weights["temporal.2.bias"] -= 100.0
    np.testing.assert_array_equal(Heads(manifest, save(weights)).ticks(latents, goal), 0.0)


@given(seed=st.integers(0, 99))
def test_temporal_distance_is_the_same_both_ways(manifest, seed: int) -> None:
    rng = np.random.default_rng(seed)
    here, there = rng.normal(size=(2, 1, D)).astype(np.float32)
    heads = Heads(manifest, save(tensors(seed)))
    assert heads.ticks(here, there[0]) == pytest.approx(heads.ticks(there, here[0]), rel=1e-5)


def test_error_is_the_members_mean_and_their_disagreement_on_top(manifest) -> None:
    rng, weights = np.random.default_rng(1), tensors()
    latents = rng.normal(size=(9, 10, D)).astype(np.float32)
    actions = rng.normal(size=(9, 10, A)).astype(np.float32)
    features = error_features(latents, actions)
    logs = np.array([by_hand(weights, "error", member, features) for member in range(3)])
    found = Heads(manifest, save(weights)).error(latents, actions)
    np.testing.assert_allclose(found, np.exp(logs.mean(axis=0) + logs.std(axis=0)), rtol=1e-5)
    for name in weights:  # members that agree leave their mean
        weights[name] = np.repeat(weights[name][:1], len(weights[name]), axis=0)
    agreed = Heads(manifest, save(weights)).error(latents, actions)
    np.testing.assert_allclose(agreed, np.exp(logs[0]), rtol=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"temporal.embed": None}, "temporal.embed: expected (1, 16, size), found (0,)"),
        ({"temporal.embed": np.zeros((1, 9, 16), np.float32)}, "expected (1, 16, size), found (1, 9, 16)"),
        ({"temporal.0.weight": None}, "temporal.0.weight: expected (members, 9, hidden), found None"),
        ({"error.2.bias": None}, "error.2.bias: expected (3, 1, 1), found None"),
        ({"temporal.0.weight": np.zeros((1, 5, 12), np.float32)}, "expected (1, 9, 12), found (1, 5, 12)"),
        ({"error.1.weight": np.zeros((3, 12, 9), np.float32)}, "expected (3, 12, 12), found (3, 12, 9)"),
        ({"error.0.weight": np.zeros((46, 12), np.float32)}, "(members, 46, hidden), found (46, 12)"),
        ({"error.1.bias": np.full((3, 1, 12), np.nan, np.float32)}, "expected finite values"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(manifest, change, words: str) -> None:
    changed = {name: value for name, value in (tensors() | change).items() if value is not None}
    with pytest.raises(ModelRefused, match=re.escape(words)):
        Heads(manifest, save(changed))


def test_a_model_has_the_heads_that_its_manifest_names_and_no_others(exported: Path, tmp_path: Path) -> None:
    assert world_models.load(exported).heads is None
    folder = Path(shutil.copytree(exported, tmp_path / "small_model"))
    content = save(tensors())
    (folder / HEADS_FILE).write_bytes(content)
    assert world_models.load(folder).heads is None, "not named: not loaded"
    manifest = read_manifest(folder)
    named = replace(manifest, files={**manifest.files, HEADS_FILE: sha256_of(content)})
    contents = {name: (folder / name).read_bytes() for name in named.files}
    write_model(folder, contents, named)
    assert world_models.load(folder, encoder_id=manifest.encoder_id).heads is not None
    (folder / HEADS_FILE).write_bytes(content[:-4] + b"\0\0\0\0")
    with pytest.raises(ModelRefused, match=f"sha256 of {HEADS_FILE}"):
        world_models.load(folder)


def test_the_shipped_model_has_heads_for_the_planners_own_horizon() -> None:
    """Weights above zero must work with what a clone has."""
    model = world_models.load(defaults().world_model)
    config = MpcConfig(weight_temporal_distance=1.0, weight_uncertainty=1.0)
    objective = Objective(config, model, config.sampler.horizon, load_robot(defaults().robot))
    assert {"temporal_distance", "uncertainty"} <= {term.name for term in objective.terms}

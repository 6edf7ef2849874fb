"""Heads on a frozen world model: they learn what can be learned, and the model stays what it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.judging.head_judge import HeadData, figures, rank_correlation
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.training import head_training
from wm_vla_ros.training.head_training import HeadsTraining, fit_error, fit_temporal, train
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.heads import HEADS_FILE, Heads
from wm_vla_ros.world_models.manifest import ModelRefused, read_manifest

D, A, H = 12, 7, 10
MODEL = "so101_latent_dynamics"
QUICK = HeadsTraining(steps=400)


def head_data(seed: int, episodes: int = 30, length: int = 40) -> HeadData:
    """Episodes of which time moves two latent dimensions, and chance, more strongly, all the others.

    A rollout is off by what its first action's first number says, and by nothing that the latent shows.
    """
    rng = np.random.default_rng(seed)
    frames = np.arange(0, length, 2)
    latents = rng.normal(size=(episodes, len(frames), D)).astype(np.float32)
    start = rng.normal(size=(episodes, 1, 2))
    way = rng.normal(size=(episodes, 1, 2))
    way /= np.linalg.norm(way, axis=2, keepdims=True)
    latents[:, :, :2] = start + 0.08 * frames[:, None] * way
    count = episodes * len(frames)
    actions = rng.uniform(-1, 1, (count, 1, A)).repeat(H, axis=1).astype(np.float32)
    number = np.repeat(np.arange(episodes), len(frames))
    return HeadData(
        latents=latents.reshape(count, D),
        frame_row=(np.arange(episodes)[:, None] * length + frames).ravel(),
        frame_last=np.repeat((np.arange(episodes) + 1) * len(frames) - 1, len(frames)),
        frame_episode=number,
        rollouts=rng.normal(size=(count, H, D)).astype(np.float32),
        actions=actions,
        error=0.002 * np.exp(1.5 * actions[:, 0, 0]),
        window_episode=number,
    )


def learned(training: HeadsTraining) -> Heads:
    seen = head_data(0)
    tensors = {
        **fit_temporal(seen, training, lambda share: None),
        **fit_error(seen, training, lambda share: None),
    }
    manifest = SimpleNamespace(name="small", latent_dim=D, action_dim=A, horizon=H)
    return Heads(manifest, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


@pytest.fixture(scope="module")
def heads() -> Heads:
    return learned(QUICK)


def test_on_unseen_episodes_both_heads_beat_what_needs_no_learning(heads) -> None:
    found = {figure.name.removeprefix("heads."): figure for figure in figures(heads, head_data(1))}
    assert found["temporal_gain"].low > 0.1
    assert found["temporal_rank"].value > found["euclidean_rank"].value
    assert found["uncertainty_rank"].low > 0.5
    assert found["uncertainty_gain"].low > 0.3
    assert found["temporal_error"].value < 5.0


def test_expected_error_is_in_metres(heads) -> None:
    """Rather more than less of them: one standard deviation of the ensemble is on top."""
    data = head_data(1)
    ratio = heads.error(data.rollouts, data.actions) / data.error
    assert 0.8 < np.median(ratio) < 2.2


def test_the_same_seed_gives_the_same_heads_and_another_does_not() -> None:
    data = head_data(1)
    outputs = [
        learned(HeadsTraining(steps=20, seed=seed)).error(data.rollouts, data.actions) for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


@given(seed=st.integers(0, 50))
def test_pairs_are_of_one_episode_and_never_backwards(seed: int) -> None:
    data = head_data(0, episodes=5)
    first, second, ticks = data.pairs(200, np.random.default_rng(seed))
    np.testing.assert_array_equal(data.frame_episode[first], data.frame_episode[second])
    assert np.all((ticks >= 0) & (ticks <= 38) & (ticks % 2 == 0))


@given(values=st.lists(st.integers(-5, 5), min_size=3, max_size=30).filter(lambda v: len(set(v)) > 1))
def test_rank_correlation_sees_order_alone(values: list[int]) -> None:
    x = np.array(values, np.float64)
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1.0)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    """By hand: ranks 1.5 1.5 3 4 against 1 2 3 4."""
    expected = np.corrcoef([1.5, 1.5, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])[0, 1]
    assert rank_correlation(np.array([0, 0, 1, 2]), np.array([1, 2, 3, 4])) == pytest.approx(expected)


@pytest.fixture
def episodes(spec) -> EpisodeArrays:
    """Six episodes of noise in the layout of the shipped model: enough to train on, if not to learn from."""
    rng, names = np.random.default_rng(0), proprio_names(spec)
    grounding = read_manifest(world_models.registry.find(MODEL)).grounding_names[3:]
    length, count = 24, 6
    total = length * count
    actions = rng.uniform(-0.2, 0.2, (total, A)).astype(np.float32)
    return EpisodeArrays(
        images={"front": rng.integers(0, 255, (total // 2, 96, 96, 3)).astype(np.uint8)},
        frame_rows=np.arange(0, total, 2),
        row_frame=np.arange(total) // 2,
        states=rng.normal(0, 0.1, (total, len(names))).astype(np.float32),
        actions=actions,
        expert_actions=actions,
        environment=rng.normal(0, 0.1, (total, len(grounding))).astype(np.float32),
        disturbed=np.zeros(total, bool),
        success=np.zeros(total, bool),
        starts=np.arange(0, total + 1, length),
        episode_tasks=np.zeros(count, np.int64),
        seeds=np.arange(count),
        tasks=("play",),
        state_names=names,
        action_names=EE_ACTION_NAMES,
        environment_names=grounding,
        robot=spec.name,
        dt=spec.dt,
    )


def test_the_model_stays_what_it_was_and_gains_heads(
    episodes, spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_training, "load_episodes", lambda root, cameras: episodes)
    out = tmp_path / "with_heads"
    report = train([Path("data/some")], MODEL, out, HeadsTraining(steps=5))
    before, after = world_models.registry.find(MODEL), world_models.load(out, spec)
    assert after.heads is not None
    old, new = read_manifest(before), read_manifest(out)
    assert new.encoder_id == old.encoder_id, "a goal in the old latent is a goal in the new one"
    for name in set(old.files) - {HEADS_FILE}:
        assert (out / name).read_bytes() == (before / name).read_bytes()
    written = json.loads((out / "heads_report.json").read_text())
    assert [figure["name"] for figure in written["figures"]] == [figure.name for figure in report.figures]
    command = "wm-vla train heads --world-model so101_latent_dynamics --dataset some --steps 5 --seed 0"
    assert written["conditions"]["command"] == command
    with pytest.raises(FileExistsError, match="never overwritten"):
        train([Path("data/some")], MODEL, out, HeadsTraining(steps=5))


def test_a_folder_that_is_no_name_and_a_model_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="plain name"):
        train([Path("data/some")], MODEL, tmp_path / "not a name", QUICK)
    with pytest.raises(ModelRefused, match="unknown world model 'nobody'"):
        train([Path("data/some")], "nobody", tmp_path / "out", QUICK)

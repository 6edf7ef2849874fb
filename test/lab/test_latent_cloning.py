"""A policy on latents learns what it is shown, runs alike in numpy, and refuses what it does not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wm_vla_ros.data.latent_episodes import LatentEpisodes, Provenance
from wm_vla_ros.lab.latent_cloning import Cloning, clone
from wm_vla_ros.vla.latent_policy import CHUNK, LatentPolicy
from wm_vla_ros.vla.policy_manifest import PolicyRefused

D, A, LENGTH, EPISODES = 6, 3, 24, 200
TASKS = ("go left now", "go right now")
MODEL = SimpleNamespace(
    latent_dim=D,
    action_dim=A,
    encoder_id="toy-1",
    dt=0.02,
    manifest=SimpleNamespace(cameras={"front": (8, 8)}),
)
TOLD = Provenance("toy", "ab" * 32, "toy", "toy-1", "cd" * 32, 0)


def acted(latents: np.ndarray, task: np.ndarray) -> np.ndarray:
    """The first entry follows the latent, the second the instruction, the third is never used."""
    used = np.stack([0.1 * latents[:, 0], 0.2 * task - 0.1], axis=1)
    return np.concatenate([used, np.full((len(task), 1), 0.4)], axis=1).astype(np.float32)


def episodes(seed: int, imagined: bool = False, scale: float = 1.0) -> LatentEpisodes:
    """One latent for a whole episode, so that every action of a chunk follows from it."""
    rng = np.random.default_rng(seed)
    latents = np.repeat(rng.normal(0, scale, (EPISODES, D)), LENGTH, axis=0).astype(np.float32)
    task = np.arange(EPISODES) % 2
    actions = acted(latents, np.repeat(task, LENGTH))
    rows = EPISODES * LENGTH
    return LatentEpisodes(
        latents=latents,
        age=np.zeros(rows, np.float32),
        actions=np.zeros_like(actions),
        expert_actions=actions,
        disturbed=np.zeros(rows, bool),
        imagined=np.full(rows, imagined),
        motion=np.zeros((rows, 2), int),
        scene=np.zeros((rows, 2), int),
        starts=np.arange(0, rows + 1, LENGTH),
        episode_tasks=task,
        tasks=TASKS,
        action_names=("a", "b", "c"),
        robot="toy",
        dt=0.02,
        provenance=TOLD,
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LatentPolicy:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    clone(episodes(0), path, Cloning(250, 0, batch=64))
    return LatentPolicy(path, MODEL)  # type: ignore[arg-type]


def test_it_does_what_was_shown_in_latents_never_seen(policy: LatentPolicy) -> None:
    latents = np.random.default_rng(9).normal(0, 1.0, (20, D)).astype(np.float32)
    for task, instruction in enumerate(TASKS):
        given = np.stack([policy.act(latent, instruction)[0] for latent in latents])
        wanted = acted(latents, np.full(len(latents), task))
        assert np.abs(given - wanted)[:, :2].mean(axis=0).max() < 0.03, "the mean action is off by 0.08"
        np.testing.assert_allclose(given[:, 2], 0.4, atol=1e-6)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        clone(episodes(0), tmp_path / name, Cloning(5, seed, batch=16))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_imagined_rows_are_learned_from_as_well(tmp_path: Path) -> None:
    """Recorded ones stay near the middle; what is far out is known from imagined ones alone."""
    recorded, imagined = episodes(0, scale=0.1), episodes(1, imagined=True)
    both = replace(
        recorded,
        **{
            name: np.concatenate([getattr(recorded, name), getattr(imagined, name)])
            for name in (
                *("latents", "age", "actions", "expert_actions"),
                *("disturbed", "imagined", "motion", "scene", "episode_tasks"),
            )
        },
        starts=np.arange(0, 2 * EPISODES * LENGTH + 1, LENGTH),
    )
    far = np.random.default_rng(9).normal(0, 1.0, (20, D)).astype(np.float32)
    off = {}
    for name, data in (("recorded", recorded), ("both", both)):
        clone(data, tmp_path / name, Cloning(200, 0, batch=64))
        policy = LatentPolicy(tmp_path / name, MODEL)  # type: ignore[arg-type]
        given = np.stack([policy.act(latent, TASKS[0])[0] for latent in far])
        off[name] = np.abs(given - acted(far, np.zeros(len(far))))[:, 0].mean()
    assert off["both"] < 0.7 * off["recorded"]


def test_what_came_after_a_disturbance_is_not_learned(tmp_path: Path) -> None:
    """Labels behind a disturbance answer to it: nonsense there must leave no trace in the policy."""
    clean = episodes(0)
    disturbed = np.tile(np.arange(LENGTH) == LENGTH // 2, EPISODES)
    nonsense = clean.expert_actions.copy()
    after = np.tile(np.arange(LENGTH) > LENGTH // 2, EPISODES)
    nonsense[after, 0] = 5.0
    # Rows behind the disturbance are no samples either, so that only chunks could carry it over.
    age = np.where(after, 0.02, 0.0).astype(np.float32)
    clone(
        replace(clean, disturbed=disturbed, expert_actions=nonsense, age=age),
        tmp_path / "policy",
        Cloning(150, 0, batch=64),
    )
    policy = LatentPolicy(tmp_path / "policy", MODEL)  # type: ignore[arg-type]
    given = np.stack([policy.act(latent, TASKS[0]) for latent in clean.latents[:: LENGTH * 2]])
    assert given.shape[1:] == (CHUNK, A)
    assert np.abs(given[..., 0]).max() < 1.0


def test_words_that_it_never_heard_are_refused(policy: LatentPolicy) -> None:
    with pytest.raises(ValueError, match="the policy knows no 'up' as word 2 of 'go up now'"):
        policy.act(np.zeros(D, np.float32), "go up now")


def test_another_encoders_latents_are_refused(tmp_path: Path) -> None:
    clone(episodes(0), tmp_path / "policy", Cloning(2, 0, batch=8))
    other = SimpleNamespace(**{**vars(MODEL), "encoder_id": "other-2"})
    with pytest.raises(PolicyRefused, match="cloned on latents of toy-1, the model is other-2"):
        LatentPolicy(tmp_path / "policy", other)  # type: ignore[arg-type]
    (tmp_path / "junk").write_bytes(b"not a policy")
    with pytest.raises(PolicyRefused, match="junk: no policy on latents"):
        LatentPolicy(tmp_path / "junk", MODEL)  # type: ignore[arg-type]

"""Imagined demonstrations in a world by hand, whose tip moves by the action and takes the cube along."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wm_vla_ros.data.latent_episodes import LatentEpisodes, Provenance
from wm_vla_ros.lab.imagined_demonstrations import imagine

SCALE, EPISODES = 0.02, 4
TOLD = Provenance("toy", "ab" * 32, "toy", "toy-1", "cd" * 32, 0)


class Toy:
    """Latents are ten times the metres of tip, cube and pad. A low tip that is near takes the cube along."""

    grounding_names = tuple(f"{thing}.{axis}" for thing in ("tip", "cube", "pad") for axis in "xyz")
    manifest = SimpleNamespace(name="toy", action_space="ee_delta", translation_scale=SCALE)

    def imagine(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        out = []
        for action in actions.unbind(1):
            step, (tip, cube) = 10 * SCALE * action[:, :3], (latents[:, :3], latents[:, 3:6])
            near = ((tip - cube).norm(dim=1, keepdim=True) < 0.3) & (tip[:, 2:] < 0.2)
            taken = near * step * torch.tensor([1.0, 1.0, 0.0])
            latents = torch.cat([tip + step, cube + taken, latents[:, 6:]], 1)
            out.append(latents)
        imagined = torch.stack(out, 1)
        return imagined, imagined / 10

    def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return self.imagine(torch.from_numpy(latents), torch.from_numpy(actions))[0].numpy()

    def ground(self, latents: np.ndarray) -> np.ndarray:
        return latents / 10


def shown(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents and actions of one push in a scene of its own: above the cube, down, to the pad, up, stay."""
    rng = np.random.default_rng(number)
    tip, cube = np.array([0.1, 0.0, 0.1]), np.array([0.25, rng.uniform(-0.1, 0.1), 0.01])
    angle = rng.uniform(-1, 1)
    pad = cube + 0.12 * np.array([np.cos(angle), np.sin(angle), 0.0]) - [0, 0, 0.01]
    up = np.array([0.0, 0.0, 0.01])
    corners = [cube + 8 * up, cube, pad + up, pad + 6 * up]
    actions = []
    for corner in corners:
        count = int(np.ceil(np.linalg.norm(corner - tip) / 0.003))
        actions += [(corner - tip) / count / SCALE] * count
        tip = corner
    moves = np.zeros((len(actions) + 10, 7), np.float32)
    moves[: len(actions), :3] = actions
    start = 10 * np.concatenate([[0.1, 0.0, 0.1], cube, pad]).astype(np.float32)
    after = Toy().rollout(start[None], moves[None])[0]
    return np.concatenate([start[None], after[:-1]]), moves


@pytest.fixture(scope="module")
def recorded() -> LatentEpisodes:
    torch.set_num_threads(1)
    parts = [shown(number) for number in range(EPISODES)]
    lengths = [len(latents) for latents, _ in parts]
    rows = np.concatenate([np.arange(length) for length in lengths])
    number = np.repeat(np.arange(EPISODES), lengths) + 20
    seen = np.concatenate([latents[np.arange(len(latents)) // 2 * 2] for latents, _ in parts])
    actions = np.concatenate([moves for _, moves in parts])
    return LatentEpisodes(
        latents=seen,
        age=(0.02 * (rows % 2)).astype(np.float32),
        actions=actions,
        expert_actions=actions,
        disturbed=np.zeros(len(rows), bool),
        imagined=np.zeros(len(rows), bool),
        motion=np.stack([number, rows], axis=1),
        scene=np.stack([number, np.zeros(len(rows), int)], axis=1),
        starts=np.cumsum([0, *lengths]),
        episode_tasks=np.zeros(EPISODES, int),
        tasks=("push",),
        action_names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
        robot="toy",
        dt=0.02,
        provenance=TOLD,
    )


@pytest.fixture(scope="module")
def imagined(recorded: LatentEpisodes) -> LatentEpisodes:
    return imagine(Toy(), recorded, 6, 0)  # type: ignore[arg-type]


def spans(data: LatentEpisodes) -> list[slice]:
    return [slice(data.starts[number], data.starts[number + 1]) for number in range(data.episodes)]


def test_so_many_as_were_asked_for_and_all_marked(imagined: LatentEpisodes) -> None:
    assert imagined.episodes == 6 * EPISODES
    assert imagined.imagined.all()
    assert not imagined.disturbed.any()
    assert not imagined.age.any()


def test_each_is_what_the_model_says_of_its_own_actions(imagined: LatentEpisodes) -> None:
    """Labels and latents belong together, or a policy would be taught what does not happen."""
    for rows in spans(imagined):
        latents, actions = imagined.latents[rows], imagined.actions[rows]
        np.testing.assert_allclose(Toy().rollout(latents[:1], actions[None])[0, :-1], latents[1:], atol=1e-4)
        np.testing.assert_array_equal(actions, imagined.expert_actions[rows])


def test_the_cube_comes_to_the_pad_of_the_scene_that_it_was_begun_in(imagined: LatentEpisodes) -> None:
    ends = np.array([Toy().ground(imagined.latents[rows][-1]) for rows in spans(imagined)])
    missing = np.linalg.norm((ends[:, 3:6] - ends[:, 6:9])[:, :2], axis=1)
    assert np.mean(missing < 0.02) > 0.8
    assert missing.max() < 0.2


def test_provenance_names_the_scene_and_the_motion(
    recorded: LatentEpisodes, imagined: LatentEpisodes
) -> None:
    """Pads never move, so the scene that is named must be the one whose pad is seen."""
    first = {20 + number: rows.start for number, rows in enumerate(spans(recorded))}
    foreign = 0
    for rows in spans(imagined):
        (scene,), (motion,) = np.unique(imagined.scene[rows, 0]), np.unique(imagined.motion[rows, 0])
        at = first[scene] + imagined.scene[rows.start, 1]
        np.testing.assert_allclose(imagined.latents[rows][0, 6:], recorded.latents[at, 6:], atol=1e-6)
        foreign += scene != motion
        of_motion = imagined.motion[rows, 1]
        assert of_motion.max() < 200
        assert np.all(np.diff(of_motion) >= 0), "first the way there (-1), then row by row"
    assert 0 < foreign < imagined.episodes


def test_the_seed_decides(recorded: LatentEpisodes, imagined: LatentEpisodes) -> None:
    again, other = (imagine(Toy(), recorded, 6, seed) for seed in (0, 1))  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.latents, imagined.latents)
    assert len(other.latents) != len(imagined.latents) or not np.array_equal(other.latents, imagined.latents)


def test_what_the_model_does_not_follow_is_refused(recorded: LatentEpisodes) -> None:
    class Stuck(Toy):
        def imagine(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
            imagined, metres = super().imagine(latents, 0.0 * actions)
            return imagined, metres

    with pytest.raises(ValueError, match=r"toy followed 0 of \d+ demonstrations"):
        imagine(Stuck(), recorded, 1, 0)  # type: ignore[arg-type]


def test_bad_input_is_refused_by_name(recorded: LatentEpisodes) -> None:
    with pytest.raises(ValueError, match="times must be at least 1, got 0"):
        imagine(Toy(), recorded, 0, 0)  # type: ignore[arg-type]
    joints, tipless = Toy(), Toy()
    joints.manifest = SimpleNamespace(name="toy", action_space="joint_position", translation_scale=SCALE)  # type: ignore[misc]
    with pytest.raises(ValueError, match="takes actions of 'joint_position', needed: 'ee_delta'"):
        imagine(joints, recorded, 1, 0)  # type: ignore[arg-type]
    tipless.grounding_names = tuple(name.replace("tip", "hand") for name in Toy.grounding_names)  # type: ignore[misc]
    with pytest.raises(ValueError, match="does not say where tip and objects are"):
        imagine(tipless, recorded, 1, 0)  # type: ignore[arg-type]
    busy = replace(recorded, disturbed=np.ones(len(recorded.age), bool))
    with pytest.raises(ValueError, match="no recorded demonstration has 25 undisturbed rows"):
        imagine(Toy(), busy, 1, 0)  # type: ignore[arg-type]

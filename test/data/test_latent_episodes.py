"""What is imagined can be told from what was recorded: before it is written, after, and after a cut."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.data.describe import describe
from wm_vla_ros.data.latent_episodes import (
    IMAGINED,
    LATENT,
    MOTION,
    LatentEpisodes,
    Provenance,
    joined,
    load_latent_episodes,
    write_latent_episodes,
)

TOLD = Provenance("push", "ab" * 32, "some_model", "some_model-1", "cd" * 32, 3)


def episodes(lengths: tuple[int, ...], imagined: bool, seed: int = 0) -> LatentEpisodes:
    rng, rows = np.random.default_rng(seed), sum(lengths)
    actions = rng.normal(size=(rows, 2)).astype(np.float32)
    number = np.repeat(np.arange(len(lengths)), lengths)
    return LatentEpisodes(
        latents=rng.normal(size=(rows, 4)).astype(np.float32),
        age=np.where(np.arange(rows) % 2, 0.0 if imagined else 0.02, 0.0).astype(np.float32),
        actions=actions,
        expert_actions=actions + 1,
        disturbed=rng.random(rows) < 0.3,
        imagined=np.full(rows, imagined),
        motion=np.stack([number + 7, np.arange(rows) - 1], axis=1),
        scene=np.stack([number + 8, np.arange(rows)], axis=1),
        starts=np.cumsum([0, *lengths]),
        episode_tasks=np.arange(len(lengths)) % 2,
        tasks=("push", "touch"),
        action_names=("dx", "dy"),
        robot="so101",
        dt=0.02,
        provenance=TOLD,
    )


@pytest.fixture(scope="module")
def both() -> LatentEpisodes:
    return joined([episodes((5, 3), imagined=False), episodes((4, 6, 2), imagined=True, seed=1)])


@pytest.fixture(scope="module")
def root(both: LatentEpisodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("latents") / "set"
    write_latent_episodes(root, both)
    return root


def same(one: LatentEpisodes, other: LatentEpisodes) -> None:
    for field in fields(LatentEpisodes):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def test_everything_comes_back(both: LatentEpisodes, root: Path) -> None:
    read = load_latent_episodes(root)
    same(read, both)
    assert read.imagined_episodes.tolist() == [False, False, True, True, True]
    assert read.provenance == TOLD


def test_recorded_and_imagined_are_told_apart(both: LatentEpisodes, root: Path) -> None:
    read = load_latent_episodes(root)
    same(read.only(np.flatnonzero(~read.imagined_episodes)), episodes((5, 3), imagined=False))
    imagined = read.only([3, 2])
    assert imagined.imagined.all()
    np.testing.assert_array_equal(imagined.latents, both.latents[[*range(12, 18), *range(8, 12)]])
    np.testing.assert_array_equal(imagined.motion[0], both.motion[12])


def test_lerobot_loads_it_and_each_row_says_what_it_is(both: LatentEpisodes, root: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    loaded = LeRobotDataset("local/set", root=root)
    assert (loaded.num_episodes, loaded.num_frames, loaded.fps) == (5, 20, 50)
    item = loaded[9]
    np.testing.assert_allclose(item[LATENT].numpy(), both.latents[9])
    assert bool(item[IMAGINED])
    assert not bool(loaded[7][IMAGINED])
    assert item[MOTION].tolist() == both.motion[9].tolist()
    assert item["task"] == "push"


def test_data_info_says_how_many_are_imagined(root: Path) -> None:
    figures = {figure.name: figure.value for figure in describe(root).figures}
    assert figures["data.imagined"] == 3
    assert figures["data.episodes"] == 5


def test_a_data_set_is_never_overwritten(both: LatentEpisodes, root: Path) -> None:
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_latent_episodes(root, both)


def test_a_number_that_is_none_is_refused(both: LatentEpisodes, tmp_path: Path) -> None:
    latents = both.latents.copy()
    latents[6, 1] = np.nan
    with pytest.raises(ValueError, match=r"observation.latent is not finite in row 6, episode 1"):
        write_latent_episodes(tmp_path / "set", replace(both, latents=latents))


def test_an_ordinary_data_set_is_refused(root: Path, tmp_path: Path) -> None:
    import json
    import shutil

    plain = tmp_path / "plain"
    shutil.copytree(root, plain)
    info = json.loads((plain / "meta/info.json").read_text())
    del info["features"][IMAGINED]
    (plain / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"lacks \['provenance.imagined'\]: it was not made by"):
        load_latent_episodes(plain)


def test_rows_that_contradict_their_episode_are_refused(both: LatentEpisodes, tmp_path: Path) -> None:
    """A row that lost its mark would pass for a recorded one."""
    imagined = both.imagined.copy()
    imagined[10] = False
    write_latent_episodes(tmp_path / "set", replace(both, imagined=imagined))
    with pytest.raises(ValueError, match="row 10 says imagined: False, its episode does not"):
        load_latent_episodes(tmp_path / "set")


def test_two_origins_are_not_joined(both: LatentEpisodes) -> None:
    other = replace(both, provenance=replace(TOLD, world_model="another"))
    with pytest.raises(ValueError, match="provenance differs: .*some_model.* and .*another"):
        joined([both, other])

"""Data that cannot be trained on are refused, and the refusal names file, episode or feature."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wm_vla_ros.data.lerobot_reader import concatenate, load_episodes
from wm_vla_ros.training.policy_data import load_demonstrations
from wm_vla_ros.training.world_model_training import WorldModelTraining, train


@pytest.fixture
def states(planar: Path, tmp_path: Path) -> Path:
    """A data set without video that a test may damage."""
    return Path(shutil.copytree(planar, tmp_path / "states"))


@pytest.fixture
def films(blind: Path, tmp_path: Path) -> Path:
    """One with video, not decoded yet."""
    return Path(shutil.copytree(blind, tmp_path / "films", ignore=shutil.ignore_patterns("cache")))


def edit_info(root: Path, change: Callable[[dict], None]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_rows(root: Path, folder: str, name: str, change: Callable[[list], None]) -> None:
    (path,) = (root / folder).glob("*/*.parquet")
    table = pq.read_table(path)
    values = table[name].to_pylist()
    change(values)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, name, pa.array(values, table.schema.field(name).type)), path)


def refused(root: Path, tmp_path: Path) -> str:
    """What a training says of it; nothing is written."""
    with pytest.raises(ValueError) as caught:
        train([root], tmp_path / "out" / "model", WorldModelTraining(steps=6, device="cpu"))
    assert not (tmp_path / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("feature", ["observation.state", "action"])
def test_a_value_that_is_no_number(states: Path, tmp_path: Path, feature: str, bad: float) -> None:
    def change(rows: list) -> None:
        rows[70][1] = bad

    edit_rows(states, "data", feature, change)
    assert f"{states}: {feature} is not finite in row 70, episode 2" in refused(states, tmp_path)


def test_an_empty_episode(states: Path, tmp_path: Path) -> None:
    edit_rows(states, "meta/episodes", "length", lambda rows: rows.__setitem__(3, 0))
    assert f"{states}: episode 3 is empty" in refused(states, tmp_path)


def test_rows_at_two_rates_within_a_data_set(states: Path, tmp_path: Path) -> None:
    def change(rows: list) -> None:
        rows[96:128] = [1.5 * each for each in rows[96:128]]

    edit_rows(states, "data", "timestamp", change)
    said = refused(states, tmp_path)
    assert f"{states}: episode 3 has rows 0.03 s apart at its row 0, the data set has 50 per second" in said


def test_data_sets_of_two_rates(planar: Path) -> None:
    one = load_episodes(planar, None)
    with pytest.raises(ValueError, match="rows per second differ between the first .* number 2: 50 and 25"):
        concatenate([one, replace(one, dt=0.04)])


@pytest.mark.parametrize("lacking", ["action", "observation.state"])
def test_a_feature_that_is_not_there(states: Path, tmp_path: Path, lacking: str) -> None:
    edit_info(states, lambda info: info["features"].pop(lacking))
    assert f"{states} lacks" in (said := refused(states, tmp_path))
    assert lacking in said


def test_a_policy_needs_the_state_that_a_world_model_can_do_without(blind: Path) -> None:
    with pytest.raises(ValueError, match="lacks observation.state, which a policy reads"):
        load_demonstrations([blind], ["eye"])


def test_rows_of_another_episode_than_the_table_says(states: Path, tmp_path: Path) -> None:
    edit_rows(states, "data", "episode_index", lambda rows: rows.__setitem__(33, 0))
    assert "row 33 is not of episode 1, as the table says" in refused(states, tmp_path)


def test_rows_that_cannot_be_read(states: Path, tmp_path: Path) -> None:
    (path,) = (states / "data").glob("*/*.parquet")
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} cannot be read" in refused(states, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "garbage", "missing"])
def test_a_video_that_cannot_be_decoded(films: Path, tmp_path: Path, damage: str) -> None:
    (path,) = (films / "videos").glob("**/*.mp4")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else bytes(len(content)))
    said = refused(films, tmp_path)
    assert f"{path}, observation.images.eye of episodes 0 to 5, cannot be decoded" in said
    assert not list(films.glob("cache/*/*.npy"))


def test_a_video_without_some_of_its_frames(films: Path, tmp_path: Path) -> None:
    import av

    (path,) = (films / "videos").glob("**/*.mp4")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 40, 3), np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    said = refused(films, tmp_path)
    assert f"{path} holds 10 of the 192 frames that episodes 0 to 5 need" in said
    assert "25 frames a second, the data set 50 rows" in said


def test_fault_56_a_video_path_that_leaves_the_data_set(films: Path, tmp_path: Path) -> None:
    edit_info(films, lambda info: info.update(video_path="../{video_key}/{chunk_index}/{file_index}.mp4"))
    assert "expected a file inside the data set, found '../observation.images.eye" in refused(films, tmp_path)


@pytest.mark.parametrize("name", ["../../evil", "a/b", ".hidden", ""])
def test_fault_56_a_camera_whose_name_is_a_path(films: Path, tmp_path: Path, name: str) -> None:
    def rename(info: dict) -> None:
        info["features"][f"observation.images.{name}"] = info["features"].pop("observation.images.eye")

    edit_info(films, rename)
    before = sorted(tmp_path.rglob("*"))
    assert f"expected plain names of cameras, found {name!r}" in refused(films, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_a_data_set_does_not_give(planar: Path, states: Path) -> None:
    """Names are kept where there is one for each number; nested ones, as LeRobot's recorders write them."""
    assert load_episodes(planar, None).action_names == ("action_0", "action_1")
    edit_info(states, lambda info: info["features"]["action"].update(names={"motors": ["left", "right"]}))
    assert load_episodes(states, None).action_names == ("left", "right")
    edit_info(states, lambda info: info["features"]["action"].update(names=["same", "same"]))
    assert load_episodes(states, None).action_names == ("action_0", "action_1")
    edit_info(states, lambda info: info.update(robot_type=None))
    assert load_episodes(states, None).robot == "unknown"


def test_pictures_that_are_kept_in_the_rows(tmp_path: Path) -> None:
    """LeRobot keeps them as PNG in the rows where video is not asked for."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    shape = {"dtype": "image", "shape": (16, 16, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (2,), "names": None}
    root = tmp_path / "pictures"
    made = LeRobotDataset.create(
        "local/p", 10, {"action": vector, "observation.image": shape}, root=root, use_videos=False
    )
    for episode in range(2):
        for row in range(5):
            image = np.full((16, 16, 3), 10 * row + 100 * episode, np.uint8)
            made.add_frame({"action": np.zeros(2, np.float32), "observation.image": image, "task": "look"})
        made.save_episode()
    made.finalize()
    data = load_episodes(root, None)
    assert list(data.images) == ["image"]
    expected = [10 * row + 100 * episode for episode in range(2) for row in range(5)]
    assert data.images["image"][:, 3, 3, 0].tolist() == expected

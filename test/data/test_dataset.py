"""A data set written here is LeRobot's own format, and comes back as the arrays that went in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.data.describe import describe
from wm_vla_ros.data.episode import (
    ACTION,
    DISTURBED,
    ENVIRONMENT,
    EXPERT_ACTION,
    FRAME_AGE,
    IMAGE_PREFIX,
    STATE,
    SUCCESS,
    DatasetSpec,
    Episode,
    EpisodeBuffer,
)
from wm_vla_ros.data.lerobot_reader import concatenate, load_episodes
from wm_vla_ros.data.lerobot_writer import EpisodeWriter
from wm_vla_ros.data.video_shard import VideoShard, image_stats, vector_stats

SIZE = 48
SPEC = DatasetSpec(
    robot="so101",
    fps=50,
    state_names=("joint", "tip.x"),
    action_names=("dx", "dy"),
    environment_names=("cube.x",),
    cameras=("front", "wrist"),
    height=SIZE,
    width=SIZE,
)


def image(number: int, camera: str) -> np.ndarray:
    """A bright square on grey whose place tells the frame's number and camera."""
    picture = np.full((SIZE, SIZE, 3), 90, np.uint8)
    column = 8 + number % 24
    channel = 0 if camera == "front" else 2
    picture[10:22, column : column + 12, channel] = 230
    return picture


def episode(rows: int, seed: int, task: str = "touch the red cube") -> Episode:
    buffer = EpisodeBuffer()
    for row in range(rows):
        values = {
            STATE: (row + seed, 0.5),
            ACTION: (row * 0.1, -0.2),
            EXPERT_ACTION: (row * 0.1, 0.3),
            ENVIRONMENT: seed / 100,
            FRAME_AGE: 0.02 * (row % 2),
            DISTURBED: row == 3,
            SUCCESS: row >= rows - 2,
        }
        new = {camera: image(row + seed, camera) for camera in SPEC.cameras} if row % 2 == 0 else None
        buffer.add(values, new)
    return buffer.build(task, seed)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "set"
    with EpisodeWriter(root, SPEC) as writer:
        # Odd and even lengths: the second episode's frames start at an odd place in the file.
        writer.save_episode(episode(15, 0))
        writer.save_episode(episode(20, 5, "touch the blue cube"))
        writer.save_episode(episode(11, 9))
    return root


def test_lerobot_loads_it_with_stats_and_decodes_frames(dataset: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    loaded = LeRobotDataset("local/set", root=dataset)
    assert (loaded.num_episodes, loaded.num_frames, loaded.fps) == (3, 46, 50)
    for name in (STATE, ACTION, EXPERT_ACTION, IMAGE_PREFIX + "front"):
        assert {"mean", "std", "min", "max", "count", "q01", "q99"} <= set(loaded.meta.stats[name])
    # Row 8 of the second episode: every camera shows the frame of that row, in colour.
    item = loaded[15 + 8]
    assert item["task"] == "touch the blue cube"
    for camera in SPEC.cameras:
        pixels = item[IMAGE_PREFIX + camera].permute(1, 2, 0).numpy() * 255
        assert np.abs(pixels - image(8 + 5, camera)).mean() < 3.0
    assert item[ACTION].tolist() == pytest.approx([0.8, -0.2])
    # A row in between holds the frame of the row before it.
    held = loaded[15 + 9][IMAGE_PREFIX + "front"].permute(1, 2, 0).numpy() * 255
    assert np.abs(held - image(8 + 5, "front")).mean() < 3.0


def test_lerobot_gives_action_chunks_within_an_episode(dataset: Path) -> None:
    """Chunks must not run into the next episode: the episode table's row numbers have to be right."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    loaded = LeRobotDataset("local/set", root=dataset, delta_timestamps={ACTION: [i / 50 for i in range(4)]})
    item = loaded[13]
    assert item["action_is_pad"].tolist() == [False, False, True, True]
    assert item[ACTION][:, 0].tolist() == pytest.approx([1.3, 1.4, 1.4, 1.4])


def test_reader_gives_the_arrays_that_were_written(dataset: Path) -> None:
    data = load_episodes(dataset, cameras=("front", "wrist"))
    assert data.starts.tolist() == [0, 15, 35, 46]
    assert data.seeds.tolist() == [0, 5, 9]
    assert [data.tasks[i] for i in data.episode_tasks] == [
        "touch the red cube",
        "touch the blue cube",
        "touch the red cube",
    ]
    start, stop = data.bounds(1)
    wanted = episode(20, 5)
    np.testing.assert_array_equal(data.states[start:stop], wanted.columns[STATE])
    np.testing.assert_array_equal(data.expert_actions[start:stop], wanted.columns[EXPERT_ACTION])
    np.testing.assert_array_equal(data.environment[start:stop], wanted.columns[ENVIRONMENT])
    assert np.flatnonzero(data.disturbed).tolist() == [3, 18, 38]
    assert data.success.sum() == 6
    assert data.frame_rows[:9].tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 15]
    assert data.row_frame[[14, 15, 16, 17]].tolist() == [7, 8, 8, 9]
    assert data.images["wrist"].shape == (8 + 10 + 6, SIZE, SIZE, 3)
    for row in (0, 16, 34, 45):
        number = int(data.row_episode()[row])
        within = (row - data.starts[number]) // 2 * 2
        picture = data.images["wrist"][data.row_frame[row]].astype(int)
        assert np.abs(picture - image(within + int(data.seeds[number]), "wrist")).mean() < 3.0


def test_reader_maps_its_cache_the_second_time(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_episodes(dataset, cameras=("front",))
    monkeypatch.setattr("wm_vla_ros.data.frame_cache._decode", lambda *_: pytest.fail("decoded again"))
    second = load_episodes(dataset, cameras=("front",))
    assert isinstance(second.images["front"], np.memmap)
    np.testing.assert_array_equal(first.images["front"], second.images["front"])


def test_concatenated_sets_keep_their_frames_and_tasks(dataset: Path) -> None:
    one = load_episodes(dataset, cameras=("front",))
    both = concatenate([one, one])
    assert both.episodes == 6
    assert both.starts[-1] == 92
    rows = np.array([[0, 46 + 16], [40, 46 + 45]])
    again = np.array([[0, 16], [40, 45]])
    np.testing.assert_array_equal(
        both.images["front"][both.row_frame[rows]], one.images["front"][one.row_frame[again]]
    )
    assert both.tasks == one.tasks


def test_a_path_that_is_there_is_refused_before_any_work(dataset: Path, tmp_path: Path) -> None:
    before = (dataset / "meta" / "info.json").read_bytes()
    with pytest.raises(FileExistsError, match="never overwritten"):
        EpisodeWriter(dataset, SPEC)
    assert (dataset / "meta" / "info.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileExistsError):
        EpisodeWriter(tmp_path / "empty", SPEC)


def test_two_processes_worth_of_video_go_into_one_set(tmp_path: Path) -> None:
    """Shards write their own files; the episode table says which, in whatever order episodes come."""
    root = tmp_path / "set"
    writer = EpisodeWriter(root, SPEC)
    episodes = [episode(12, seed) for seed in (1, 2, 3, 4)]
    with VideoShard(root, SPEC, 0, episodes_per_file=1) as a, VideoShard(root, SPEC, 1) as b:
        for number, recorded in enumerate(episodes):
            shard = b if number % 2 else a
            writer.save_episode(recorded, shard.append(recorded))
    writer.finalize()
    data = load_episodes(root, cameras=("front",))
    for number, seed in enumerate((1, 2, 3, 4)):
        picture = data.images["front"][data.row_frame[data.starts[number] + 6]].astype(int)
        assert np.abs(picture - image(6 + seed, "front")).mean() < 3.0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: {**c, STATE: c[STATE][:, :1]}, "observation.state has shape"),
        (lambda c: {k: v for k, v in c.items() if k != STATE} | {"extra": c[STATE]}, "columns are"),
        (
            lambda c: {**c, EXPERT_ACTION: np.where(c[EXPERT_ACTION] > 0.5, np.nan, 0.0)},
            "not finite at row 6",
        ),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_by_name(tmp_path: Path, change, message: str) -> None:
    with EpisodeWriter(tmp_path / "set", SPEC) as writer:
        good = episode(10, 0)
        bad = replace(good, columns=change(good.columns))
        with pytest.raises(ValueError, match=message):
            writer.save_episode(bad)
        writer.save_episode(good)
    assert load_episodes(tmp_path / "set", cameras=("front",)).episodes == 1


def test_reader_names_what_is_missing(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks \['observation.images.top'\]; its features are"):
        load_episodes(dataset, cameras=("front", "top"))
    with pytest.raises(FileNotFoundError, match="no data set"):
        load_episodes(tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"codebase_version": "v2.1", "features": {}}))
    with pytest.raises(ValueError, match=r"v2\.1, needed: v3"):
        load_episodes(tmp_path)


def test_describe_counts_tasks_and_success(dataset: Path) -> None:
    report = describe(dataset)
    values = {figure.name: figure.value for figure in report.figures}
    assert values["data.episodes"] == 3
    assert values["data.rows"] == 46
    assert values["data.success"] == 1.0
    assert report.conditions["tasks"] == {"touch the blue cube": 1, "touch the red cube": 2}
    assert report.conditions["features"][STATE] == ["float32", 2]


def test_statistics_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    stats = image_stats(frames)
    scaled = frames.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(stats["mean"].ravel(), scaled.mean(0), rtol=1e-9)
    np.testing.assert_allclose(stats["std"].ravel(), scaled.std(0), rtol=1e-9)
    np.testing.assert_allclose(stats["q50"].ravel(), np.quantile(scaled, 0.5, axis=0), atol=1 / 255)
    assert stats["min"].shape == (3, 1, 1)
    values = rng.normal(size=(40, 3))
    np.testing.assert_allclose(vector_stats(values)["q10"], np.quantile(values, 0.1, axis=0))

"""Recording in simulation: what is stored, and that LeRobot takes what `wm-vla data collect` writes."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.data.episode import ACTION, DISTURBED, ENVIRONMENT, EXPERT_ACTION, STATE, SUCCESS
from wm_vla_ros.rig.behaviours import NOISE_TICKS, NoiseBursts, PolicyTurns
from wm_vla_ros.rig.collect import GLANCE_SECONDS, CollectOptions, Orphaned, Recorder, collect, send
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.tasks.task import task_for_seed


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"policy": "sleep"}, "unknown policy 'sleep'; valid: expert, play, glance, dagger"),
        ({"task": "juggle"}, "unknown task 'juggle'; valid: reach, push"),
        ({"policy": "dagger"}, "a checkpoint goes with"),
        ({"checkpoint": "models/x"}, "a checkpoint goes with"),
        ({"episodes": 0}, "between 1 and"),
    ],
)
def test_wrong_options_are_refused_by_name(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CollectOptions(**({"episodes": 1, "policy": "expert", "task": "push"} | wrong))


def test_scenes_of_a_series_are_never_those_of_evaluation_or_of_another_series() -> None:
    first = {CollectOptions(5, "play", seed=0).scene_seed(i, a) for i in range(5) for a in range(9)}
    second = {CollectOptions(5, "play", seed=1).scene_seed(i, a) for i in range(5) for a in range(9)}
    assert min(first) >= 1_000_000
    assert not first & second


def test_an_existing_folder_is_refused_before_a_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wm_vla_ros.rig.collect._Workers", lambda *_: pytest.fail("started"))
    with pytest.raises(FileExistsError):
        collect(CollectOptions(1, "play"), tmp_path, workers=1)


class _FullQueue:
    """A bounded queue that nobody reads until the given attempt."""

    def __init__(self, room_at: int | None) -> None:
        self.attempts, self.room_at, self.taken = 0, room_at, []

    def put(self, message: object, timeout: float) -> None:
        self.attempts += 1
        if self.attempts != self.room_at:
            raise queue.Full
        self.taken.append(message)


def test_a_recording_process_waits_for_room_but_not_for_a_dead_parent() -> None:
    """Workers whose parent had been killed waited for room in the queue for ever, with a world in memory."""
    slow = _FullQueue(room_at=3)
    send(slow, "episode", parent_lives=lambda: True)
    assert slow.taken == ["episode"]
    with pytest.raises(Orphaned):
        send(_FullQueue(room_at=None), "episode", parent_lives=lambda: False)


def test_noise_comes_in_bursts_and_leaves_rotation_and_gripper_alone() -> None:
    noise = NoiseBursts(load_robot("so101"))
    noise.start(np.random.default_rng(3))
    expert = np.zeros(7, np.float32)
    rows = [noise(expert) for _ in range(600)]
    disturbed = np.array([row is not None for row in rows])
    change = np.diff(np.concatenate([[0], disturbed.astype(int), [0]]))
    lengths = np.flatnonzero(change == -1) - np.flatnonzero(change == 1)
    assert 0.1 < disturbed.mean() < 0.5
    assert (lengths[:-1] >= NOISE_TICKS[0]).all()
    for row in rows:
        if row is not None:
            assert 0.02 < np.linalg.norm(row[:3]) < 0.2
            assert not row[3:].any()


def test_a_policy_and_the_expert_take_turns() -> None:
    restarts = []
    turns = PolicyTurns(lambda: np.ones(7, np.float32), lambda: restarts.append(1))
    turns.start(np.random.default_rng(0))
    acted = np.array([turns(np.zeros(7, np.float32)) is not None for _ in range(1000)])
    assert acted[0]
    assert len(restarts) == np.sum(np.diff(acted.astype(int)) == 1) + 1
    assert 0.2 < acted.mean() < 0.8


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder(CollectOptions(2, "expert", "reach", cameras=("front",)))


def test_a_demonstration_succeeds_and_keeps_both_actions(recorder: Recorder) -> None:
    episode, attempts = recorder.record(0)
    episode.validate(recorder.dataset)
    columns = episode.columns
    assert attempts >= 1
    assert episode.task.startswith("touch the ")
    assert columns[SUCCESS][-1, 0]
    quiet = ~columns[DISTURBED][:, 0]
    # Where nothing interfered the arm did what the expert said, to half a millimetre a tick.
    difference = np.abs(columns[ACTION] - columns[EXPERT_ACTION])[:, :3].max(axis=1)
    assert np.quantile(difference[quiet], 0.9) < 0.05
    # Commanded joints of row t + 1 come from the action of row t: nothing is one row late.
    moved = np.diff(columns[STATE][:, 15:18], axis=0) / recorder.spec.translation_scale
    np.testing.assert_allclose(moved, columns[ACTION][:-1, :3], atol=1e-3)


def test_the_same_seed_records_the_same_episode(recorder: Recorder) -> None:
    """What an episode holds must not depend on which process records it, nor on what it recorded before."""
    first, _ = recorder.record(1)
    recorder.record(0)
    again, _ = recorder.record(1)
    for name, values in first.columns.items():
        np.testing.assert_array_equal(values, again.columns[name], err_msg=name)
    np.testing.assert_array_equal(first.frames["front"], again.frames["front"])


def test_half_of_the_demonstrations_begin_where_an_earlier_instruction_has_led(recorder: Recorder) -> None:
    """An arm that always starts at rest learns nothing of a second instruction in the same scene."""
    seeds = range(2_500_000, 2_500_016)
    began = np.array([recorder.scene(seed).columns[STATE][0, 12:15] for seed in seeds])
    rest = []
    for seed in seeds:
        recorder._arm.reset(seed, task_for_seed("reach", seed))
        rest.append(recorder._arm.world.tip())
    elsewhere = np.linalg.norm(began - rest, axis=1) > 0.005
    assert 3 <= elsewhere.sum() <= 13


@pytest.mark.slow
def test_the_command_records_what_lerobot_loads(tmp_path: Path) -> None:
    out = tmp_path / "push"
    command = ["data", "collect", "--task", "push", "--episodes", "5", "--out", str(out), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "wm_vla_ros.cli", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure["value"] for figure in json.loads(done.stdout)["figures"]}
    assert figures["collect.episodes"] == 5

    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    loaded = LeRobotDataset("local/push", root=out)
    assert loaded.num_episodes == 5
    assert loaded.num_frames == figures["collect.rows"]
    assert loaded.meta.stats[ACTION]["std"].shape == (7,)
    item = loaded[loaded.num_frames // 2]
    assert item["observation.images.front"].shape == (3, 96, 96)
    assert item["observation.images.front"].std() > 0.02
    assert item["task"].startswith("push the ")


def test_a_glance_is_a_moment_of_a_scene_with_the_arm_anywhere() -> None:
    recorder = Recorder(CollectOptions(20, "glance", seed=3, cameras=("front",)))
    names = list(recorder.dataset.state_names)
    states, tips, rows = [], [], set()
    for number in range(20):
        episode, attempts = recorder.record(number)
        assert attempts == 1
        rows.add(len(episode))
        assert not episode.columns[SUCCESS].any()
        states.append(episode.columns[STATE])
        tips.append(states[-1][0, [names.index(f"tip.position.{axis}") for axis in "xyz"]])
        # Nothing flies apart: no cube was where the arm was put.
        assert np.ptp(episode.columns[ENVIRONMENT], axis=0).max() < 0.003
    again, _ = recorder.record(7)
    recorder.close()
    assert rows == {round(GLANCE_SECONDS * 50)}
    # An episode otherwise begins with the tip 9 cm up or more, and within 6 cm of the middle.
    heights, aside = np.array(tips)[:, 2], np.abs(np.array(tips)[:, 1])
    assert heights.min() < 0.03
    assert heights.max() > 0.09
    assert aside.max() > 0.1
    np.testing.assert_array_equal(again.columns[STATE], states[7])

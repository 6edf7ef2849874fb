"""From demonstrations to a policy folder: samples, masks, reproducibility, and what is written beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.data.episode import (
    ACTION,
    DISTURBED,
    ENVIRONMENT,
    EXPERT_ACTION,
    FRAME_AGE,
    STATE,
    SUCCESS,
    DatasetSpec,
    EpisodeBuffer,
)
from wm_vla_ros.data.lerobot_reader import load_episodes
from wm_vla_ros.data.lerobot_writer import EpisodeWriter
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.policy_data import (
    load_demonstrations,
    normalisation,
    split_samples,
    valid_ticks,
)
from wm_vla_ros.training.policy_training import PolicyTraining, prepare, train
from wm_vla_ros.types import EE_ACTION_NAMES

ROWS, SIZE, CHUNK = 20, 32, 6
ROBOT = load_robot("so101")
SPEC = DatasetSpec(
    robot=ROBOT.name,
    fps=50,
    state_names=proprio_names(ROBOT),
    action_names=EE_ACTION_NAMES,
    environment_names=("cube.x",),
    cameras=("front",),
    height=SIZE,
    width=SIZE,
)
TASKS = ("touch the red cube", "touch the blue cube", "touch the blue cube", "touch the blue cube")


def write(root: Path, tasks: tuple[str, ...], disturbed: frozenset[int] = frozenset()) -> Path:
    rng = np.random.default_rng(0)
    with EpisodeWriter(root, SPEC) as writer:
        for number, task in enumerate(tasks):
            buffer = EpisodeBuffer()
            for row in range(ROWS):
                expert = np.zeros(7, np.float32)
                expert[:3] = rng.normal(0.0, 0.1, 3)
                values = {
                    STATE: rng.normal(size=len(SPEC.state_names)),
                    ACTION: expert if row not in disturbed else -expert,
                    EXPERT_ACTION: expert,
                    ENVIRONMENT: 0.1,
                    FRAME_AGE: 0.02 * (row % 2),
                    DISTURBED: row in disturbed,
                    SUCCESS: row == ROWS - 1,
                }
                frame = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
                buffer.add(values, {"front": frame} if row % 2 == 0 else None)
            writer.save_episode(buffer.build(task, number))
    return root


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "touch", TASKS, frozenset({8, 9}))


def test_a_chunk_counts_until_something_else_acted_or_the_episode_ends(demonstrations: Path) -> None:
    data = load_episodes(demonstrations)
    rows = np.array([0, 4, 6, 8, 9, 10, 16, 18, 19, 20])
    # Row 8 itself is still labelled by the expert; what follows there answers to the disturbance.
    assert valid_ticks(data, rows, CHUNK).tolist() == [6, 5, 3, 1, 1, 6, 4, 2, 1, 6]


def test_samples_hold_the_experts_actions_of_their_own_rows(demonstrations: Path) -> None:
    data = load_episodes(demonstrations)
    samples, held_out = split_samples(data, CHUNK, 0.25, seed=3)
    mine, theirs = (set(np.unique(s.rows // ROWS)) for s in (samples, held_out))
    assert len(theirs) == 1
    assert not mine & theirs
    assert samples.weights.sum() == pytest.approx(1.0)
    pick = np.array([int(np.flatnonzero(samples.rows % ROWS == 8)[0]), len(samples) - 1])
    batch = samples.batch(pick)
    row = samples.rows[pick[0]]
    np.testing.assert_array_equal(batch["actions"][0], data.expert_actions[row : row + CHUNK])
    assert (batch["actions"][0, 0, :3] == -data.actions[row, :3]).all()
    assert batch["is_pad"].tolist() == [[False] + [True] * 5, [False, False] + [True] * 4]
    np.testing.assert_array_equal(batch["images"]["front"][0], data.images["front"][data.row_frame[row]])
    assert batch["task"][0] == TASKS[row // ROWS]


def test_rare_instructions_are_drawn_oftener_than_they_occur(demonstrations: Path) -> None:
    data = load_episodes(demonstrations)
    for seed in range(20):
        samples, _ = split_samples(data, CHUNK, 0.25, seed)
        red = samples.rows < ROWS
        if 0 < red.sum() < len(red) / 2:
            assert samples.weights[red].sum() > red.mean()
            return
    pytest.fail("no split trained on the red cube")


def test_normalisation_is_what_the_saved_preprocessor_does(demonstrations: Path, tmp_path: Path) -> None:
    """Training must feed the network what LeRobot's preprocessor will feed it later."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import make_pre_post_processors

    train([demonstrations], tmp_path / "made", PolicyTraining(steps=1, batch=4, chunk=CHUNK, execute=3))
    data = load_demonstrations([demonstrations], ("front",))
    samples, _ = split_samples(data, CHUNK, PolicyTraining(steps=1).held_out, 0)
    raw = samples.batch(np.array([2]))
    ours = prepare(raw, normalisation(samples), "cpu")
    before, _ = make_pre_post_processors(
        PreTrainedConfig.from_pretrained(tmp_path / "made"), pretrained_path=str(tmp_path / "made")
    )
    import torch

    theirs = before(
        {
            "observation.state": torch.from_numpy(raw["state"][0].copy()),
            "observation.images.front": torch.from_numpy(raw["images"]["front"][0]).permute(2, 0, 1) / 255.0,
            "task": raw["task"][0],
        }
    )
    for key in ("observation.state", "observation.images.front"):
        torch.testing.assert_close(ours[key], theirs[key])
    assert ours["task"] == theirs["task"]


def test_training_is_reproducible_and_what_it_writes_loads(demonstrations: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    from wm_vla_ros.vla.policy import SlowPolicy

    training = PolicyTraining(steps=4, batch=8, seed=5, chunk=CHUNK, execute=3)
    shares = []
    report = train([demonstrations], tmp_path / "a", training, progress=lambda share, _: shares.append(share))
    train([demonstrations], tmp_path / "b", training)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    figures = {figure.name: figure.value for figure in report.figures}
    assert figures["policy.steps"] == 4
    assert np.isfinite(figures["policy.held_out_l1"])

    policy = SlowPolicy(str(tmp_path / "a"), robot=ROBOT, cameras=("front",))
    chunk = policy.infer({"front": np.zeros((SIZE, SIZE, 3), np.uint8)}, np.zeros(18), "touch the red cube")
    assert chunk.shape == (CHUNK, 7)
    assert not chunk[:, 3:].any()
    manifest = json.loads((tmp_path / "a" / "policy_manifest.json").read_text())
    assert manifest["robot"] == ROBOT.name
    assert manifest["instructions"] == sorted(set(TASKS))
    assert manifest["datasets"][0]["tasks"] == {"touch the blue cube": 3, "touch the red cube": 1}
    assert manifest["licence"] == "Apache-2.0"
    assert "model.safetensors" in manifest["files"]
    # Nothing that is shipped may name a place on the machine it was made on.
    for path in (tmp_path / "a").glob("*.json"):
        if path.name != "policy_manifest.json":
            assert str(tmp_path) not in path.read_text()
    assert str(tmp_path) not in json.dumps(manifest)
    assert manifest["command"].startswith("wm-vla train policy --dataset ")


def test_training_goes_on_from_an_earlier_policy(demonstrations: Path, tmp_path: Path) -> None:
    first = PolicyTraining(steps=3, batch=8, chunk=CHUNK, execute=3)
    train([demonstrations], tmp_path / "a", first)
    tiny = PolicyTraining(steps=1, batch=8, chunk=CHUNK, execute=3, learning_rate=1e-9, weight_decay=0.0)
    train([demonstrations], tmp_path / "b", tiny, start_from=tmp_path / "a")
    from safetensors.numpy import load_file

    before, after = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    for name, values in before.items():
        np.testing.assert_allclose(values, after[name], atol=1e-6, err_msg=name)


def test_nothing_is_trained_on_play_or_over_an_existing_folder(demonstrations: Path, tmp_path: Path) -> None:
    play = write(tmp_path / "play", ("play", "play"))
    with pytest.raises(ValueError, match="holds play, which follows no instruction"):
        train([play], tmp_path / "out", PolicyTraining(steps=1))
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="never overwritten"):
        train([demonstrations], tmp_path / "there", PolicyTraining(steps=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["play", "there"]


@pytest.mark.parametrize("wrong", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}])
def test_a_budget_is_steps_or_minutes(wrong: dict) -> None:
    with pytest.raises(ValueError, match="steps"):
        PolicyTraining(**wrong)


@pytest.mark.parametrize("unknown", ["so101_no_such_policy", "owner/name"])
def test_a_policy_to_go_on_from_that_is_not_here_is_refused_before_any_data_is_read(
    tmp_path: Path, unknown: str
) -> None:
    with pytest.raises(ValueError, match=unknown):
        train([tmp_path / "no_data"], tmp_path / "out", PolicyTraining(steps=1), start_from=Path(unknown))

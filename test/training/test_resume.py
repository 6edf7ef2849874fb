"""A training is killed, and goes on as if it had not been: 20 times, at random moments, the hard way.

Run as a script, this file is the process that is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.training import world_model_training
from wm_vla_ros.training.run_folder import RunFolder
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.world_model_trainer import Diverged, Trainer
from wm_vla_ros.training.world_model_training import WorldModelTraining, resume, train
from wm_vla_ros.world_models.families import FAMILIES, family_class
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
from wm_vla_ros.world_models.video import VideoOptions

KILLS, EVERY, STEPS, MOST = 20, 5, 620, 24
# Everything that has a memory: target encoder, replay, slow copies, both generators.
STAGES = TrainConfig(
    Stage(0.3, 4, 1e-3),
    Stage(0.3, 4, 1e-3, 8),
    Stage(0.4, 16, 1e-3, 8),
    strides=(2, 4),
    priority=0.6,
    imagined=0.25,
)
TRAINING = WorldModelTraining(
    "implicit", steps=STEPS, held_out=0.2, device="cpu", stages=STAGES, checkpoint_every=EVERY
)
# Options of families whose defaults ask for longer windows than these.
OPTIONS = {"video": VideoOptions(frames=2, every=4)}


def made_data(episodes: int = 6, length: int = 26) -> EpisodeArrays:
    """A dot that goes where it is told, seen and in the state; on the left is success."""
    rng, total = np.random.default_rng(0), episodes * length
    actions = rng.uniform(-1, 1, (total, 2)).astype(np.float32)
    states = rng.uniform(-8, 8, (total, 2)).astype(np.float32)
    for row in range(total):
        if row % length:
            states[row] = np.clip(states[row - 1] + actions[row - 1], -12, 12)
    rows = np.arange(0, total, 2)
    images = np.full((len(rows), 16, 16, 3), 60, np.uint8)
    for image, state in zip(images, states[rows], strict=True):
        row, column = np.clip(np.round(state / 2 + 8), 1, 14).astype(int)
        image[row - 1 : row + 2, column - 1 : column + 2] = 230
    return EpisodeArrays(
        images={"top": images},
        frame_rows=rows,
        row_frame=np.arange(total) // 2,
        states=states,
        actions=actions,
        expert_actions=actions,
        environment=np.zeros((total, 0), np.float32),
        disturbed=np.zeros(total, bool),
        success=states[:, 0] < 0,
        starts=np.arange(0, total + 1, length),
        episode_tasks=np.zeros(episodes, np.int64),
        seeds=np.arange(episodes),
        tasks=("go",),
        state_names=("x", "y"),
        action_names=("dx", "dy"),
        environment_names=(),
        robot="dot",
        dt=0.02,
    )


@pytest.fixture
def from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(world_model_training, "load_episodes", lambda root, cameras: made_data())


class Stop(Exception):
    """Raised in the middle of a training."""


def trained(family: str, folder: RunFolder | None, stop_after: int = 0) -> Trainer:
    """STEPS / 20 steps, gone on with from whatever checkpoint is in the folder."""
    made = (
        partial(family_class(family), options=OPTIONS[family]) if family in OPTIONS else family_class(family)
    )
    one = Trainer(made_data(), np.arange(5), ("top",), STAGES, 0, family=made)
    if folder is not None:
        checkpoint, history, refused = folder.newest()
        assert refused == []
        if checkpoint is not None:
            one.restore(checkpoint, history)

    def progress(share: float, note: str) -> None:
        if stop_after and len(one.history) == stop_after:
            raise Stop

    one.run(Budget(steps=STEPS // 20), progress, folder)
    return one


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_goes_on_bit_by_bit(family: str, tmp_path: Path) -> None:
    """Left once in every stage, and once on the step that is a checkpoint."""
    torch.set_num_threads(1)
    whole = trained(family, None)
    for stop in (7, 10, 14, 24):
        with RunFolder(tmp_path, {}, EVERY) as folder, pytest.raises(Stop):
            trained(family, folder, stop)
    with RunFolder(tmp_path, {}, EVERY) as folder:
        again = trained(family, folder)
    for (name, expected), found in zip(
        whole.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found), name
    assert whole.history == again.history


@pytest.mark.slow
def test_killed_20_times_it_ends_as_if_it_never_was(tmp_path: Path) -> None:
    script = [sys.executable, __file__, str(tmp_path)]
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(script, capture_output=True, text=True, timeout=280, check=False, env=here)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == KILLS
    assert found["corrupt"] == 0
    assert found["most_lost"] <= EVERY
    whole, again = (tmp_path / name / WEIGHTS_FILE for name in ("whole", "killed"))
    assert whole.read_bytes() == again.read_bytes()
    metrics = [(tmp_path / f"{name}.run" / "metrics.jsonl").read_text() for name in ("whole", "killed")]
    assert metrics[0] == metrics[1]
    losses = [
        next(f["value"] for f in json.loads((tmp_path / n / "report.json").read_text())["figures"]
             if f["name"] == "train.loss")
        for n in ("whole", "killed")
    ]  # fmt: skip
    assert losses[0] == losses[1]


def killed_repeatedly(root: Path) -> dict[str, int]:
    """One training unbroken; another killed at random moments, each time in a process of its own."""
    torch.set_num_threads(1)
    world_model_training.load_episodes = lambda root, cameras: made_data()
    out, run, rng = root / "killed", root / "killed.run", np.random.default_rng(0)
    train([Path("dots")], root / "whole", TRAINING)
    corrupt = most_lost = kills = 0
    while kills < KILLS:
        before = newest_step(run)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            work = (lambda tell: train([Path("dots")], out, TRAINING, tell)) if kills == 0 else (
                lambda tell: resume(run, tell)
            )  # fmt: skip
            alive(work, lambda share, note, to=writing: os.write(to, b"."))
        os.close(writing)
        wanted, seen = int(rng.integers(1, MOST)), 0
        while seen < wanted and os.read(reading, 1):
            seen += 1
        time.sleep(rng.uniform(0.0, 0.03))  # anywhere in the steps that follow, or while they are kept
        os.kill(child, signal.SIGKILL)
        while os.read(reading, 1):
            seen += 1
        _, status = os.waitpid(child, 0)
        os.close(reading)
        assert os.WIFSIGNALED(status), "it ended before it was killed: give it more steps"
        kills += 1
        folder = RunFolder(run, {}, EVERY)
        for step in folder.checkpoints.steps():
            try:
                folder.checkpoints.read(step)
            except ModelRefused as error:
                print(error, file=sys.stderr)
                corrupt += 1
        folder.__exit__()
        most_lost = max(most_lost, before + seen - newest_step(run))
    resume(run)
    return {"kills": kills, "corrupt": corrupt, "most_lost": most_lost}


def alive(work: Callable, tell: Callable) -> None:
    """Do the work in this process, which has no other end than os._exit."""
    try:
        work(tell)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def newest_step(run: Path) -> int:
    names = [path.stem for path in (run / "checkpoints").glob("step_*.json")]
    return max((int(name.partition("_")[2]) for name in names), default=0)


SHORT = replace(TRAINING, steps=30)


def test_a_run_folder_tells_the_whole_story(from_memory: None, tmp_path: Path) -> None:
    report = train([Path("dots")], tmp_path / "model", SHORT)
    run = tmp_path / "model.run"
    config = json.loads((run / "config.json").read_text())
    assert (config["seed"], config["training"]["family"]) == (0, "implicit")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["stage"] for line in lines} == {"encoder", "joint", "dynamics"}
    assert len(list((run / "checkpoints").iterdir())) == 4
    assert any(path.name.startswith("events") for path in (run / "tensorboard").iterdir())
    assert not any("pickle" in path.suffix or path.suffix in (".pt", ".pkl") for path in run.rglob("*"))
    written = json.loads((run / "report.json").read_text())
    assert written == json.loads((tmp_path / "model" / "report.json").read_text())
    minutes = next(figure.value for figure in report.figures if figure.name == "train.minutes")
    assert 0.0 < minutes < 5.0
    from wm_vla_ros.lab.model_facts import train_minutes

    assert train_minutes(tmp_path / "model") == pytest.approx(minutes)
    with pytest.raises(ModelRefused, match="found one that is finished"):
        resume(run)


def test_a_run_that_is_there_is_gone_on_with_and_not_begun_again(
    from_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = tmp_path / "model", tmp_path / "model.run"

    def stop(share: float, note: str) -> None:
        if share > 0.6:
            raise Stop

    with pytest.raises(Stop):
        train([Path("dots")], out, SHORT, stop)
    with pytest.raises(FileExistsError, match="holds a run already: go on with --resume"):
        train([Path("dots")], out, SHORT)
    monkeypatch.setattr(world_model_training, "load_episodes", lambda root, cameras: made_data(7))
    with pytest.raises(ModelRefused, match="expected the data that it began with"):
        resume(run)
    monkeypatch.setattr(world_model_training, "load_episodes", lambda root, cameras: made_data())
    with RunFolder(run, {}, EVERY), pytest.raises(ModelRefused, match="found a process at it"):
        resume(run)
    notes: list[str] = []
    newest = max((run / "checkpoints").glob("*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert resume(run, lambda share, note: notes.append(note)) is not None
    assert "checkpoint refused, an older one is used: sha256 of step_" in notes[0]
    whole = train([Path("dots")], tmp_path / "other", SHORT)
    assert whole is not None
    assert (out / WEIGHTS_FILE).read_bytes() == (tmp_path / "other" / WEIGHTS_FILE).read_bytes()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="expected a run with config.json, found none"):
        resume(tmp_path)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(ModelRefused, match="expected a JSON object"):
        resume(tmp_path)
    (tmp_path / "config.json").write_text('{"training": {"stages": {}}}')
    with pytest.raises(ModelRefused, match="expected the options"):
        resume(tmp_path)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    one = Trainer(made_data(), np.arange(5), ("top",), STAGES, 0)
    with torch.no_grad():
        one.model.grounding.linear.bias.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"encoder, step 1: gradient nan, losses \{'encoded': nan"):
        one.run(Budget(steps=30))


if __name__ == "__main__":
    print(json.dumps(killed_repeatedly(Path(sys.argv[1]))))

"""Scenes without demonstrations: what a policy learns from them, and which it refuses."""

from __future__ import annotations

from dataclasses import replace
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
from wm_vla_ros.data.lerobot_writer import EpisodeWriter
from wm_vla_ros.report import Report
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.policy_training import PolicyTraining, train
from wm_vla_ros.types import EE_ACTION_NAMES

SIZE, ROBOT = 32, load_robot("so101")
SPEC = DatasetSpec(
    robot=ROBOT.name,
    fps=50,
    state_names=proprio_names(ROBOT),
    action_names=EE_ACTION_NAMES,
    environment_names=("cube.x", "cube.z"),
    cameras=("front",),
    height=SIZE,
    width=SIZE,
)


def write(root: Path, places: np.ndarray, rows: int, task: str, spec: DatasetSpec = SPEC) -> Path:
    """One episode for each place in [0, 1] of a white square, whose metres are a tenth of it."""
    rng = np.random.default_rng(len(places))
    with EpisodeWriter(root, spec) as writer:
        for number, place in enumerate(places):
            frame = np.full((SIZE, SIZE, 3), 60, np.uint8)
            column = round(place * (SIZE - 5))
            frame[12:17, column : column + 5] = 255
            buffer = EpisodeBuffer()
            for row in range(rows):
                values = {
                    STATE: rng.normal(size=len(spec.state_names)),
                    ACTION: rng.normal(0.0, 0.1, 7),
                    EXPERT_ACTION: rng.normal(0.0, 0.1, 7),
                    ENVIRONMENT: np.array([0.1 * place, 0.0125]),
                    FRAME_AGE: 0.02 * (row % 2),
                    DISTURBED: False,
                    SUCCESS: row == rows - 1,
                }
                buffer.add(values, {"front": frame} if row % 2 == 0 else None)
            writer.save_episode(buffer.build(task, number))
    return root


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    places = np.array([0.1, 0.9, 0.15, 0.85, 0.5, 0.3])
    return write(tmp_path_factory.mktemp("data") / "touch", places, 12, "touch the cube")


TRAINING = PolicyTraining(steps=80, chunk=4, execute=2, batch=16, warmup=5, held_out=0.34)


def test_scenes_teach_where_things_are(demonstrations: Path, tmp_path: Path) -> None:
    """Held-out demonstrations show the square where no demonstration that is trained on has it."""
    scenes = write(tmp_path / "scenes", np.linspace(0.0, 1.0, 40), 2, "play")
    few = write(tmp_path / "few", np.array([0.1, 0.9]), 2, "play")
    poor = train([demonstrations], tmp_path / "poor", TRAINING, scenes=[few])
    seen = train([demonstrations], tmp_path / "seen", TRAINING, scenes=[scenes])

    def error(report: Report) -> float:
        return next(float(figure.value) for figure in report.figures if figure.name == "policy.object_error")

    assert error(seen) < 0.5 * error(poor)
    assert "--scenes scenes" in (tmp_path / "seen" / "policy_manifest.json").read_text()


def test_without_scenes_or_where_nothing_is_ever_elsewhere_nothing_is_located(
    demonstrations: Path, tmp_path: Path
) -> None:
    still = write(tmp_path / "still", np.array([0.5, 0.5, 0.5]), 8, "touch")
    report = train([demonstrations], tmp_path / "policy", replace(TRAINING, steps=2))
    assert "policy.object_error" not in {figure.name for figure in report.figures}
    with pytest.raises(ValueError, match="scenes: the demonstrations know of no object"):
        train([still], tmp_path / "out", TRAINING, scenes=[demonstrations])


def test_scenes_with_other_objects_are_refused_by_name(demonstrations: Path, tmp_path: Path) -> None:
    spec = replace(SPEC, environment_names=("cube.x", "ball.z"))
    other = write(tmp_path / "other", np.array([0.2, 0.4]), 2, "play", spec)
    with pytest.raises(ValueError, match=r"other: environment_names are cube.x, ball.z; .* cube.x, cube.z"):
        train([demonstrations], tmp_path / "out", TRAINING, scenes=[other])
    assert not (tmp_path / "out").exists()

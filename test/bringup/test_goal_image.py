"""`wm-vla goal-image` and a running stack: the picture becomes a goal that its planner follows or refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from safetensors.numpy import save

from wm_vla_ros.bringup.stack import CAMERAS, DRIVER, FAST, SLOW
from wm_vla_ros.config import defaults
from wm_vla_ros.goals.goal_image import GOAL_ENCODER_FILE, GOAL_PRECISION_FILE
from wm_vla_ros.rig.simulated_arm import SimulatedArm
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.sim.expert import ScriptedExpert
from wm_vla_ros.tasks.task import task_for_seed
from wm_vla_ros.world_models.manifest import (
    MANIFEST_NAME,
    encoder_id_of,
    read_files,
    read_manifest,
    sha256_of,
    write_model,
)
from wm_vla_ros.world_models.registry import find

pytestmark = [pytest.mark.graph, pytest.mark.slow]
SPEC = load_robot(defaults().robot)
MODEL = defaults().world_model
SEED = 3


def wait_until(condition, timeout: float, what: str) -> None:
    pause = threading.Event()
    for _ in range(round(timeout / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail(f"not within {timeout} s: {what}")


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """The arm on its way to a cube: image (96, 96, 3) RGB, and proprioception (18,)."""
    arm, task = SimulatedArm(SPEC, 96, 96), task_for_seed("reach", SEED)
    arm.reset(SEED, task)
    expert = ScriptedExpert(SPEC, task)
    for _ in range(35):
        arm.apply(expert.action(arm.world))
    image, proprio = arm.images(("front",))["front"].copy(), arm.proprio()
    arm.world.close()
    return image, proprio


@pytest.fixture(scope="module")
def model(scene: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default world model with the smallest goal encoder: its own, told the scene's proprioception.

    It is right about that one picture and needs no training; what a trained one is worth is told elsewhere.
    """
    folder = find(MODEL)
    manifest = read_manifest(folder)
    contents = read_files(folder, manifest)
    graph = onnx.load_from_string(contents[manifest.encoder_file])
    graph.graph.input.remove(next(entry for entry in graph.graph.input if entry.name == "proprio"))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(scene[1][None], "proprio"))
    contents[GOAL_ENCODER_FILE] = graph.SerializeToString()
    contents[GOAL_PRECISION_FILE] = save({"precision": np.ones(manifest.latent_dim, np.float32)})
    out = tmp_path_factory.mktemp("models") / MODEL
    files = {name: sha256_of(content) for name, content in contents.items()}
    write_model(out, contents, replace(manifest, files=files))
    return out


def renamed(model: Path, folder: Path) -> Path:
    """The same files under another name: another latent space, as far as anyone can know."""
    shutil.copytree(model, folder)
    told = json.loads((folder / MANIFEST_NAME).read_text())
    told["name"] = folder.name
    told["encoder_id"] = encoder_id_of(folder.name, told["files"][told["encoder_file"]])
    (folder / MANIFEST_NAME).write_text(json.dumps(told))
    return folder


def goal_image(picture: Path, model: Path, seconds: float) -> tuple[int, dict]:
    """Exit code, and what `wm-vla goal-image` prints."""
    words = ["goal-image", str(picture), "--world-model", str(model), "--seconds", str(seconds), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "wm_vla_ros.cli", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=120.0,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_planner_follows_a_picture_of_its_own_encoder_and_refuses_anothers(
    up, scene: tuple[np.ndarray, np.ndarray], model: Path, tmp_path: Path
) -> None:
    """The stack runs the shipped model: a goal encoder that is added to it does not change its latents."""
    from wm_vla_msgs import msg as wm
    from wm_vla_ros import world_models
    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.bringup.recorder import StackRecorder
    from wm_vla_ros.ros import convert, qos

    picture = tmp_path / "goal.png"
    assert cv2.imwrite(str(picture), scene[0][..., ::-1])
    own = world_models.load(model, SPEC)
    other = renamed(model, tmp_path / "another_model")
    stack = up("--seed", str(SEED))
    with StackClient() as client:
        recording = StackRecorder(client, SPEC, world=True).recording
        goals: list[wm.LatentGoal] = []
        client.listen(wm.LatentGoal, "latent_goal", qos.HISTORY, goals.append)
        client.wait_until_active((DRIVER, CAMERAS, FAST, SLOW), 150.0)
        wait_until(lambda: len(recording.moments) > 20, 20.0, "joints are published")

        code, told = goal_image(picture, other, 1.5)
        figures = {figure["name"]: figure["value"] for figure in told["figures"]}
        assert (code, figures) == (1, {"goal_image.plans": 0})
        wait_until(
            lambda: any(f.code == "goal_refused" for f in recording.faults), 5.0, "the planner says so"
        )
        text = next(fault.text for fault in recording.faults if fault.code == "goal_refused")
        assert "another_model-" in text
        assert own.encoder_id in text
        assert not [item for item in recording.applied if item.sequence >= 0], "the arm did not move for it"

        goals.clear()
        began = recording.applied[-1].stamp
        code, told = goal_image(picture, model, 8.0)
        figures = {figure["name"]: figure["value"] for figure in told["figures"]}
        # The sender waits for the planner alone: this listener may find it too late to hear the goal itself.
        given = {goal.encoder_id for goal in goals if not convert.is_withdrawal(goal)}
        assert given <= {own.encoder_id}, told
        wanted = own.ground(own.encode({"front": scene[0]}, scene[1]))[:3]
        np.testing.assert_allclose(wanted, told["conditions"]["goal_tip"], atol=1e-3)
        assert code == 0, "the planner imagines the tip where the picture has it"
        assert figures["goal_image.plans"] > 5
        assert figures["goal_image.distance"] < 0.02
        followed = [item for item in recording.applied if item.stamp > began and item.sequence >= 0]
        assert len(followed) > 5, "the driver executes those plans"
        last = followed[-1].stamp
        during = [moment for moment in recording.moments if followed[0].stamp <= moment.stamp <= last]
        kinematics = Kinematics(SPEC)
        away = [np.linalg.norm(kinematics.tip_position(moment.joints) - wanted) for moment in during]
        assert away[-1] < away[0] - 0.01, "the arm goes to where the picture has its tip"
        wait_until(lambda: recording.applied[-1].stamp > last + 1.0, 10.0, "a second passes")
        assert recording.applied[-1].sequence < 0, "the goal was taken back: the driver holds"
        assert stack.end() == 0

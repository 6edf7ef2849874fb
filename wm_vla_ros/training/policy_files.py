"""What a trained policy leaves behind: LeRobot's files, the training report and the manifest."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_vla_ros import __version__
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.report import Report, as_object
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.types import EE_DELTA
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy
from wm_vla_ros.vla.manifest import PolicyManifest, describe_files

if TYPE_CHECKING:
    from wm_vla_ros.training.policy import PolicyTraining


def save_policy(
    out: Path,
    policy: KeypointChunkPolicy,
    stats: dict[str, dict[str, Any]],
    data: EpisodeArrays,
    datasets: Sequence[Path],
    training: PolicyTraining,
    steps: int,
    report: Report,
    start_from: Path | None,
) -> None:
    """LeRobot's files, the report and the manifest; the folder appears only when it is complete."""
    from wm_vla_ros.vla.keypoint_chunk.processor_keypoint_chunk import make_keypoint_chunk_pre_post_processors

    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        policy.config.device = "cpu"
        policy.to("cpu").save_pretrained(folder)
        tensors = {name: {k: torch.as_tensor(v) for k, v in entry.items()} for name, entry in stats.items()}
        for pipeline in make_keypoint_chunk_pre_post_processors(policy.config, tensors):
            pipeline.save_pretrained(folder)
        (folder / "report.json").write_text(json.dumps(as_object(report), indent=2) + "\n")
        robot = load_robot(data.robot)
        PolicyManifest(
            name=out.name,
            policy_type="keypoint_chunk",
            robot=robot.name,
            cameras={
                camera: list(frames[np.array([0])].shape[1:3]) for camera, frames in data.images.items()
            },
            proprio_names=list(data.state_names),
            action_space=EE_DELTA,
            action_names=list(data.action_names),
            translation_scale=robot.translation_scale,
            rotation_scale=robot.rotation_scale,
            dt=data.dt,
            instructions=sorted(policy.config.instructions),
            datasets=[_describe(root) for root in datasets],
            command=_command(datasets, out, training, start_from),
            training={**asdict(training), "steps_taken": steps},
            licence="Apache-2.0",
            version=__version__,
            files=describe_files(folder),
        ).write(folder)
        # safetensors and mkdtemp leave them readable by their owner alone.
        for path in folder.iterdir():
            path.chmod(0o644)
        folder.chmod(0o755)
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _describe(root: Path) -> dict[str, Any]:
    """A data set as the manifest names it: no paths, which mean nothing elsewhere."""
    from wm_vla_ros.data.describe import describe

    report = describe(root)
    return {
        "name": root.name,
        **{figure.name.removeprefix("data."): figure.value for figure in report.figures},
        "tasks": report.conditions["tasks"],
    }


def _command(datasets: Sequence[Path], out: Path, training: PolicyTraining, start_from: Path | None) -> str:
    """The command line that repeats this training; folders by their names alone."""
    length = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    words = ["wm-vla", "train", "policy"]
    for root in datasets:
        words += ["--dataset", root.name]
    if start_from is not None:
        words += ["--start-from", start_from.name]
    words += ["--output", out.name, length[0], str(length[1]), "--seed", str(training.seed)]
    words += ["--learning-rate", str(training.learning_rate)]
    return shlex.join([*words, "--cameras", ",".join(training.cameras)])

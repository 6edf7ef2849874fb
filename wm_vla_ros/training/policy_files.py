"""What a trained policy leaves behind: LeRobot's files, the training report and the manifest."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wm_vla_ros import __version__
from wm_vla_ros.data.episode import IMAGE_PREFIX
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.report import Report, as_object
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.types import EE_DELTA
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy
from wm_vla_ros.vla.policy import resolve
from wm_vla_ros.vla.policy_manifest import PolicyManifest, describe_files


def save_policy(
    out: Path,
    policy: KeypointChunkPolicy,
    stats: dict[str, dict[str, Any]],
    data: EpisodeArrays,
    datasets: Sequence[Path],
    training: Mapping[str, Any],
    command: str,
    report: Report,
) -> None:
    """LeRobot's files, the report and the manifest; the folder appears only when it is complete.

    stats: the normalisation, as `read_stats` gives it. data: what it was trained on, from `datasets`.
    training, command: how, for the manifest.
    """
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
                key.removeprefix(IMAGE_PREFIX): list(feature.shape[1:])
                for key, feature in policy.config.image_features.items()
            },
            proprio_names=list(data.state_names),
            action_space=EE_DELTA,
            action_names=list(data.action_names),
            translation_scale=robot.translation_scale,
            rotation_scale=robot.rotation_scale,
            dt=data.dt,
            instructions=sorted(policy.config.instructions),
            datasets=[_describe(root) for root in datasets],
            command=command,
            training=dict(training),
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


def policy_folder(policy: Path) -> Path:
    """The folder of a policy to go on from. Raises ValueError for a hub id, and as `resolve`."""
    folder = Path(resolve(str(policy)))
    if not folder.is_dir():
        raise ValueError(f"{policy}: training goes on from a folder or a name in models/, not from a hub id")
    return folder


def read_stats(folder: Path) -> dict[str, dict[str, Any]]:
    """The normalisation that a saved policy was trained with: feature -> "mean" and "std".

    Raises ValueError when the folder does not hold exactly one.
    """
    from safetensors.numpy import load_file

    files = sorted(folder.glob("policy_preprocessor_step_*_normalizer_processor.safetensors"))
    if len(files) != 1:
        raise ValueError(f"{folder} holds {len(files)} normalisation files, expected one")
    flat = load_file(files[0])
    return {
        name: {key: flat[f"{name}.{key}"] for key in ("mean", "std")}
        for name in ("observation.state", "action")
    }

"""What a trained policy folder says about itself: for which robot, from which data, and its files' sha256.

It lies beside LeRobot's own files and is optional: a checkpoint from elsewhere has none.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_vla_ros.world_models.manifest import is_plain_name, sha256_of

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec

# Not "manifest.json": that file marks a world model.
MANIFEST_NAME = "policy_manifest.json"
FORMAT = 1


class PolicyRefused(ValueError):
    """A policy that must not be used as it is; the text names what was expected and what was found."""


@dataclass(frozen=True)
class PolicyManifest:
    """cameras: name -> [height, width] pixels. dt: s per action. translation_scale: m and rotation_scale: rad
    per tick at |action| = 1. datasets: one description each. files: file name -> sha256 (hex)."""

    name: str
    policy_type: str
    robot: str
    cameras: dict[str, list[int]]
    proprio_names: list[str]
    action_space: str
    action_names: list[str]
    translation_scale: float
    rotation_scale: float
    dt: float
    instructions: list[str]
    datasets: list[dict[str, Any]]
    command: str
    training: dict[str, Any]
    licence: str
    version: str
    files: dict[str, str]
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write it into `folder`."""
        (folder / MANIFEST_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n")

    def check_robot(self, robot: RobotSpec) -> None:
        """Raises PolicyRefused naming the first thing in which `robot` is not the one it was trained for."""
        from wm_vla_ros.robots.proprio import proprio_names

        wanted = {
            "robot": robot.name,
            "proprio_names": list(proprio_names(robot)),
            "translation_scale": robot.translation_scale,
            "rotation_scale": robot.rotation_scale,
            "dt": robot.dt,
        }
        for name, value in wanted.items():
            own = getattr(self, name)
            same = math.isclose(own, value) if isinstance(value, float) else own == value
            if not same:
                raise PolicyRefused(f"{name}: expected {value!r} (the robot's), found {own!r} in {self.name}")


def describe_files(folder: Path) -> dict[str, str]:
    """sha256 of every file in `folder` except the manifest itself."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_NAME)
    return {path.name: sha256_of(path.read_bytes()) for path in paths}


def read_manifest(folder: Path) -> PolicyManifest | None:
    """The manifest of a policy folder, checked against its files; None when it has none.

    Raises PolicyRefused when it is not valid, or a file is missing or not the one it names.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text())
    except ValueError as error:
        raise PolicyRefused(f"{path.name}: expected JSON, found {error}") from error
    expected = {field.name for field in fields(PolicyManifest)}
    if not isinstance(raw, dict) or set(raw) != expected:
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise PolicyRefused(f"{path.name}: expected the fields {sorted(expected)}, found {found}")
    manifest = PolicyManifest(**raw)
    if manifest.format != FORMAT:
        raise PolicyRefused(f"{path.name}: expected format {FORMAT}, found {manifest.format!r}")
    for name, digest in manifest.files.items():
        if not is_plain_name(name) or not (folder / name).is_file():
            raise PolicyRefused(f"{path.name} names {name!r}, which is not in {folder.name}")
        found = sha256_of((folder / name).read_bytes())
        if found != digest:
            raise PolicyRefused(f"{name}: expected sha256 {digest}, found {found}")
    return manifest

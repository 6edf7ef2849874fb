"""The one way to open a model folder, by its name. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wm_vla_ros import paths
from wm_vla_ros.world_models.families import check_family
from wm_vla_ros.world_models.manifest import (
    MANIFEST_NAME,
    ModelRefused,
    is_plain_name,
    read_files,
    read_manifest,
)
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.runtimes import open_runtime

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec


def available(folder: Path | None = None) -> tuple[str, ...]:
    """Names of the world models in `folder` (default: the models that ship with the package)."""
    root = folder or paths.models_dir()
    return tuple(sorted(path.parent.name for path in root.glob(f"*/{MANIFEST_NAME}")))


def find(name: str | Path) -> Path:
    """The folder of a model.

    A plain name is looked up among the shipped models; anything with a separator is a path of its own.
    Raises ModelRefused for a name that climbs ("..") and for a folder that is not there, listing what is.
    """
    text = str(name)
    if ".." in Path(text).parts:
        raise ModelRefused(f"world model: expected a name or a path without '..', found {text!r}")
    if is_plain_name(text):
        folder = paths.models_dir() / text
    elif "/" in text:
        folder = Path(text)
    else:
        raise ModelRefused(f"world model: expected a plain name or a path, found {text!r}")
    if not (folder / MANIFEST_NAME).is_file():
        known = ", ".join(available()) or "none"
        raise ModelRefused(f"unknown world model {text!r}; available: {known}; or the path of a model folder")
    return folder


def load(
    name: str | Path,
    robot: RobotSpec | None = None,
    *,
    encoder_id: str | None = None,
    latent_dim: int | None = None,
    runtime: str = "onnx",
) -> WorldModel:
    """Open the world model called `name`, or in the folder `name`, after checking all of it.

    robot: refuse a model of another robot, action scale, tick or proprioception. encoder_id, latent_dim:
    refuse another latent space. runtime: of `runtimes.RUNTIMES`.
    Raises ModelRefused, a ValueError that says what was expected and what was found.
    """
    folder = find(name)
    manifest = read_manifest(folder)
    check_family(manifest.family)
    if robot is not None:
        manifest.check_robot(robot)
    if encoder_id is not None:
        manifest.check_encoder(encoder_id)
    manifest.check_dimensions(latent_dim)
    return open_runtime(manifest, read_files(folder, manifest), runtime)

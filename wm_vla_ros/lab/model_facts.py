"""What a world model's folder says of itself, and whether the planner can use it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wm_vla_ros import world_models
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, RECORDED, ModelRefused, read_manifest
from wm_vla_ros.world_models.registry import find

REPORT_FILE = "report.json"


def size_mb(folder: Path) -> float:
    """MB of the files that the manifest names, and of the manifest. Raises ModelRefused without one."""
    files = [MANIFEST_NAME, *read_manifest(folder).files]
    return sum((folder / name).stat().st_size for name in files) / 1e6


def plan_refusal(name: str) -> str:
    """Why the planner cannot use the model, or "" when it can: it is loaded, and plans are made with it."""
    from wm_vla_ros.planning.calibration import time_ticks
    from wm_vla_ros.planning.config import MpcConfig
    from wm_vla_ros.robots.spec import load_robot

    try:
        manifest = read_manifest(find(name))
        if manifest.action_space == RECORDED:
            return f"{manifest.robot} is known by its recordings alone: plans can be made, and not be driven"
        spec = load_robot(manifest.robot)
        time_ticks(world_models.load(name, robot=spec), spec, MpcConfig(), 1)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


def report_of(folder: Path) -> tuple[dict[str, Any], tuple[Figure, ...]]:
    """Conditions and figures of the report that training wrote; empty where there is none.

    Raises ValueError for a file that is no such report.
    """
    path = folder / REPORT_FILE
    if not path.is_file():
        return {}, ()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        figures = [
            Figure(**(entry | {"value": math.nan if entry["value"] is None else entry["value"]}))
            for entry in raw["figures"]
        ]
        return dict(raw["conditions"]), tuple(figures)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a report of this package: {error!r}") from error


def train_minutes(folder: Path) -> float:
    """Minutes of training: what the report measured, or the time that was given. NaN: it does not say."""
    told, figures = report_of(folder)
    measured = [figure.value for figure in figures if figure.name == "train.minutes"]
    minutes = measured[0] if measured else told.get("minutes")
    return float(minutes) if isinstance(minutes, int | float) else math.nan


def describe(name: str) -> dict[str, Any]:
    """One line of `wm-vla models list`. A model that is refused is listed with the reason."""
    row: dict[str, Any] = {"name": name, "family": None, "robot": None, "size_mb": None, "latent_dim": None}
    row |= {"data": [], "plan_ready": False}
    try:
        folder = find(name)
        manifest = read_manifest(folder)
        row |= {"family": manifest.family, "robot": manifest.robot, "latent_dim": manifest.latent_dim}
        row |= {"data": list(manifest.dataset), "size_mb": round(size_mb(folder), 2)}
    except (ModelRefused, OSError) as error:
        return row | {"refused": str(error)}
    refused = plan_refusal(name)
    return row | {"plan_ready": not refused, "refused": refused}


def listing(names: tuple[str, ...]) -> Report:
    """Every model, as the condition `models`; figures `<name>.size_mb`, `.latent_dim`, `.plan_ready`."""
    rows = [describe(name) for name in names]
    figures = []
    for row in rows:
        for what, unit in (("size_mb", "MB"), ("latent_dim", ""), ("plan_ready", "")):
            value = math.nan if row[what] is None else row[what]
            figures.append(Figure(f"{row['name']}.{what}", value, unit))
    return Report("models list", {"models": rows, **conditions()}, tuple(figures))


def shown(name: str) -> Report:
    """The manifest as conditions; the figures of the model's own report.

    Raises ModelRefused for a model that is not there, ValueError for a report that cannot be read.
    """
    folder = find(name)
    manifest = read_manifest(folder)
    told, figures = report_of(folder)
    own = (
        Figure("size_mb", size_mb(folder), "MB"),
        Figure("train_minutes", train_minutes(folder), "min"),
        Figure("plan_ready", not plan_refusal(name)),
    )
    trained = {"trained": {key: told[key] for key in ("steps", "seed", "device", "episodes") if key in told}}
    return Report("models show", {**asdict(manifest), **(trained if told else {})}, (*own, *figures))

"""Defaults of every command line, from config/defaults.yaml: the one place that names a robot and models."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import yaml

from wm_vla_ros import paths


@dataclass(frozen=True, slots=True)
class Defaults:
    """Names of a robot in config/robots and of models in models/."""

    robot: str
    policy: str
    world_model: str


@cache
def defaults() -> Defaults:
    """Read once. Raises ValueError on unknown or missing keys, naming them."""
    path = paths.config_dir() / "defaults.yaml"
    raw = yaml.safe_load(path.read_text())
    expected = {field.name for field in fields(Defaults)}
    if not isinstance(raw, dict) or set(raw) != expected:
        raise ValueError(f"{path} must hold exactly {sorted(expected)}, found {sorted(raw or ())}")
    return Defaults(**raw)

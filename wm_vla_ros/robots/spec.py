"""RobotSpec: all that the stack knows of a robot, from config/robots/<name>.yaml and a URDF.

Nothing else in the package knows a robot's name, its joints or its dimensions.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from wm_vla_ros import paths


@dataclass(frozen=True, slots=True)
class ActuatorSpec:
    """A position servo as MuJoCo's position actuator: N m/rad, N m s/rad, N m, kg m^2."""

    kp: float
    kv: float
    force_limit: float
    armature: float


@dataclass(frozen=True, slots=True)
class CameraMount:
    """A camera fixed to a link of the robot: the link's frame (x looks forwards) and fovy in degrees."""

    frame: str
    fovy: float


@dataclass(frozen=True, slots=True)
class RobotSpec:
    """One arm and its gripper. Joint vectors are ordered arm_joints, then gripper_joint; rad and metres.

    ik_limits: joint -> range in which inverse kinematics keeps it, narrower than its mechanical limits: this
    side of a singularity.
    """

    name: str
    urdf: Path
    arm_joints: tuple[str, ...]
    gripper_joint: str
    tip_frame: str
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    home: NDArray[np.float64]
    gripper_closed: float
    gripper_open: float
    gripper_speed: float
    dt: float
    translation_scale: float
    rotation_scale: float
    leash: float
    velocity_limit: NDArray[np.float64]
    acceleration_limit: NDArray[np.float64]
    limit_margin: float
    ik_limits: dict[str, tuple[float, float]]
    orientation_weights: NDArray[np.float64]
    table_height: float
    table_clearance: float
    collision_pairs: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    cameras: dict[str, CameraMount]
    simulation: ActuatorSpec

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Every joint, arm first, gripper last."""
        return (*self.arm_joints, self.gripper_joint)

    @property
    def dof(self) -> int:
        """Number of joints, gripper included."""
        return len(self.arm_joints) + 1


def available_robots() -> tuple[str, ...]:
    """Names that `load_robot` takes."""
    return tuple(sorted(path.stem for path in (paths.config_dir() / "robots").glob("*.yaml")))


def load_robot(name: str) -> RobotSpec:
    """The spec called `name`.

    Raises ValueError for an unknown name (listing the known ones), an unknown or missing key, a joint
    that the URDF lacks, or a vector of the wrong length.
    """
    if name not in available_robots():
        raise ValueError(f"unknown robot {name!r}; available: {', '.join(available_robots())}")
    path = paths.config_dir() / "robots" / f"{name}.yaml"
    return parse_spec(yaml.safe_load(path.read_text()), where=str(path))


# Numbers that have to be positive, may be zero, may have any sign.
_POSITIVE = ("dt", "translation_scale", "rotation_scale", "leash", "gripper_speed")
_NOT_NEGATIVE = ("limit_margin", "table_clearance")
_ANY_SIGN = ("gripper_closed", "gripper_open", "table_height")


def parse_spec(raw: dict[str, Any], where: str) -> RobotSpec:
    """A RobotSpec from parsed YAML; `where` names the source in errors. Raises ValueError as `load_robot`."""
    _check_keys(raw, {field.name for field in fields(RobotSpec)} - {"lower", "upper"}, where)
    urdf = paths.urdf_dir() / str(raw["urdf"])
    if not re.fullmatch(r"[a-z0-9_]+\.urdf", str(raw["urdf"])) or not urdf.is_file():
        raise ValueError(f"{where}: urdf must be the plain name of a file in urdf/, got {raw['urdf']!r}")
    joints = (*raw["arm_joints"], raw["gripper_joint"])
    if len(set(joints)) != len(joints):
        raise ValueError(f"{where}: a joint is listed twice in {joints}")
    lower, upper = _urdf_limits(urdf, joints)
    values = dict(raw)
    for key in (*_POSITIVE, *_NOT_NEGATIVE, *_ANY_SIGN):
        values[key] = _number(key, raw[key], where)
    for key in ("home", "velocity_limit", "acceleration_limit"):
        values[key] = _vector(raw[key], len(joints), f"{where}: {key}")
        if key != "home" and np.any(values[key] <= 0.0):
            raise ValueError(f"{where}: {key} must be positive, got {raw[key]}")
    values["orientation_weights"] = _vector(raw["orientation_weights"], 3, f"{where}: orientation_weights")
    if np.any(values["home"] < lower) or np.any(values["home"] > upper):
        raise ValueError(f"{where}: home {raw['home']} lies outside the URDF's joint limits")
    values.update(
        urdf=urdf,
        lower=lower,
        upper=upper,
        arm_joints=tuple(raw["arm_joints"]),
        collision_pairs=tuple((tuple(a), tuple(b)) for a, b in raw["collision_pairs"]),
        ik_limits=_ranges(raw["ik_limits"], joints, lower, upper, f"{where}: ik_limits"),
        cameras={key: _record(CameraMount, mount, where) for key, mount in raw["cameras"].items()},
        simulation=_record(ActuatorSpec, raw["simulation"], where),
    )
    return RobotSpec(**values)


def _check_keys(raw: dict[str, Any], expected: set[str], where: str) -> None:
    unknown, missing = set(raw) - expected, expected - set(raw)
    if unknown or missing:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")


def _record[T: (CameraMount, ActuatorSpec)](kind: type[T], raw: dict[str, Any], where: str) -> T:
    _check_keys(raw, {field.name for field in fields(kind)}, f"{where}: {kind.__name__}")
    return kind(**raw)


def _number(key: str, value: Any, where: str) -> float:
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{where}: {key} must be a finite number, got {value!r}")
    if key in _POSITIVE and value <= 0:
        raise ValueError(f"{where}: {key} must be positive, got {value}")
    if key in _NOT_NEGATIVE and value < 0:
        raise ValueError(f"{where}: {key} must be at least 0, got {value}")
    return float(value)


def _vector(value: list[float], size: int, what: str) -> NDArray[np.float64]:
    array = np.array(value, dtype=np.float64)
    if array.shape != (size,) or not np.all(np.isfinite(array)):
        raise ValueError(f"{what} must be {size} finite numbers, got {value}")
    array.setflags(write=False)
    return array


def _ranges(
    raw: dict[str, Any],
    joints: tuple[str, ...],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    what: str,
) -> dict[str, tuple[float, float]]:
    ranges = {}
    for name, pair in raw.items():
        if name not in joints:
            raise ValueError(f"{what}: unknown joint {name!r}; valid: {', '.join(joints)}")
        low, high = _vector(pair, 2, f"{what}: {name}")
        index = joints.index(name)
        if not lower[index] <= low < high <= upper[index]:
            limits = f"[{lower[index]}, {upper[index]}]"
            raise ValueError(f"{what}: {name} must be a range within {limits}, got {pair}")
        ranges[name] = (float(low), float(high))
    return ranges


def _urdf_limits(urdf: Path, joints: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = {joint.get("name"): joint.find("limit") for joint in ElementTree.parse(urdf).iter("joint")}
    lower, upper = [], []
    for name in joints:
        limit = known.get(name)
        if limit is None:
            raise ValueError(
                f"{urdf.name} has no limited joint {name!r}; it has {sorted(filter(None, known))}"
            )
        lower.append(float(limit.get("lower", "nan")))
        upper.append(float(limit.get("upper", "nan")))
    what = f"{urdf.name}: joint limits"
    return _vector(lower, len(joints), what), _vector(upper, len(joints), what)

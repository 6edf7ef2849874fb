"""The values that flow between sensing, belief, planning, goals, safety and drivers.

Pure data: frozen dataclasses over read-only numpy arrays; no ROS, no torch, no files.

Times are seconds (float) on the monotonic axis of the process's `Clock`. ROS stamps are converted
once, where a message enters or leaves (`wm_vla_ros.ros.convert`), so a jump of the wall clock cannot
age a plan or a goal.

A 7-D action (`ee_delta`) holds end-effector translation (3) and rotation vector (3) in the base frame,
each in [-1, 1] and scaled per tick by the robot's spec, and the gripper in [0, 1], 1 = open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

EE_DELTA = "ee_delta"
JOINT_POSITION = "joint_position"
ACTION_SPACES = (EE_DELTA, JOINT_POSITION)
EE_ACTION_DIM = 7
EE_ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")

FloatArray = NDArray[np.float32]


def frozen_array(value: ArrayLike, ndim: int, name: str, dtype: type = np.float32) -> NDArray:
    """A read-only C-contiguous copy of `value`.

    Raises ValueError when `value` has another number of dimensions. Finiteness is the safety gate's
    and the goal buffer's to judge: a value has to be representable to be refused by name.
    """
    array: NDArray = np.array(value, dtype=dtype, order="C")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s), got shape {array.shape}")
    array.setflags(write=False)
    return array


def _freeze(instance: object, name: str, ndim: int, dtype: type = np.float32) -> None:
    object.__setattr__(instance, name, frozen_array(getattr(instance, name), ndim, name, dtype))


@dataclass(frozen=True, slots=True)
class RobotState:
    """Measured joints at one instant.

    names: joint names, in the message's order. position: (n,) rad. velocity: (n,) rad/s.
    """

    stamp: float
    names: tuple[str, ...]
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]

    def __post_init__(self) -> None:
        _freeze(self, "position", 1, np.float64)
        _freeze(self, "velocity", 1, np.float64)
        for name in ("position", "velocity"):
            if len(getattr(self, name)) != len(self.names):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for joints {self.names}")


@dataclass(frozen=True, slots=True)
class Observation:
    """What the models see: camera images and proprioception of one instant.

    stamp: time of the image. images: camera name -> (H, W, 3) uint8 RGB.
    proprio: (P,) float32, laid out as `wm_vla_ros.robots.proprio.proprio_names` says.
    """

    stamp: float
    images: Mapping[str, NDArray[np.uint8]]
    proprio: FloatArray

    def __post_init__(self) -> None:
        _freeze(self, "proprio", 1)


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """The slow policy's own proposal. actions: (horizon, action_dim); row i is meant for stamp + i * dt.

    stamp: time of the observation that the policy looked at.
    """

    stamp: float
    sequence: int
    action_space: str
    dt: float
    actions: FloatArray

    def __post_init__(self) -> None:
        _freeze(self, "actions", 2)


@dataclass(frozen=True, slots=True)
class LatentGoal:
    """Where to go, in the world model's latent space.

    embeddings: (steps, dim); one step is a point to reach, several are a path whose step i is meant for
    stamp + i * dt. valid_for: seconds after `stamp` past which nothing may be planned on it.
    encoder_id: the encoder whose latent space this is. precision: (dim,) or None.
    """

    stamp: float
    sequence: int
    instruction: str
    encoder_id: str
    embeddings: FloatArray
    dt: float
    valid_for: float
    confidence: float = 1.0
    precision: FloatArray | None = None

    def __post_init__(self) -> None:
        _freeze(self, "embeddings", 2)
        if self.precision is not None:
            _freeze(self, "precision", 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the driver follows by time: action i holds during [start + i * dt, start + (i + 1) * dt).

    stamp: time of the observation it stems from. source: who commands ("mpc", "teleop", ...).
    action_names: names of the action's dimensions, in order; joint names when action_space is
    "joint_position"; empty means the action space's own order.
    """

    stamp: float
    sequence: int
    source: str
    start: float
    dt: float
    actions: FloatArray
    action_space: str = EE_DELTA
    action_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self, "actions", 2)

    @property
    def end(self) -> float:
        """Time at which the last action has run out, seconds."""
        return self.start + len(self.actions) * self.dt

    def index_at(self, now: float) -> int | None:
        """Row in force at `now`, or None before the start and after the end."""
        # Times are doubles on a clock that may have run for months: 1e7 s are exact to 2e-9 s.
        row = int(np.floor((now - self.start) / self.dt + 1e-6))
        return row if 0 <= row < len(self.actions) else None

    def rest(self, start: float, sequence: int) -> Plan | None:
        """What is left of it from `start` (seconds) on, as a plan of its own; None when nothing is.

        It stays as old as the observation that it stems from, and nothing is added at its end.
        """
        row = self.index_at(start + 0.5 * self.dt)
        if row is None:
            return None
        return replace(self, sequence=sequence, start=start, actions=self.actions[row:])


@dataclass(frozen=True, slots=True)
class AppliedAction:
    """What the gate let through at one driver tick.

    action: (7,) the motion that was really commanded, in the plan's action convention.
    joint_names, joint_positions: the joint target written to the backend, rad.
    changes: one word or phrase per intervention ("rate_limited", "hold", ...); empty when none.
    """

    stamp: float
    sequence: int
    source: str
    action: FloatArray
    joint_names: tuple[str, ...]
    joint_positions: NDArray[np.float64]
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self, "action", 1)
        _freeze(self, "joint_positions", 1, np.float64)


class Severity(IntEnum):
    """How bad a fault is. WARNING: the gate changed something. ERROR: the arm holds. FATAL: latched."""

    WARNING = 1
    ERROR = 2
    FATAL = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """A named cause: code is one word from `wm_vla_ros.safety.faults.FaultCode`, text is for people."""

    stamp: float
    code: str
    severity: Severity
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class LoopStats:
    """One tick of the fast loop. Times in milliseconds, error in metres of fingertip position."""

    stamp: float
    tick: int
    lateness_ms: float
    plan_ms: float
    observation_age_ms: float
    prediction_error: float
    divergence: float
    iterations: int
    missed_ticks: int
    dominant_term: str
    imagined_tip: FloatArray = field(default_factory=lambda: np.zeros((0, 3), np.float32))

    def __post_init__(self) -> None:
        _freeze(self, "imagined_tip", 2)


def to_dict(value: object) -> dict:
    """Dataclass fields by name, arrays as lists: for --json output and logs."""
    out = {}
    for entry in fields(value):  # type: ignore[arg-type]
        item = getattr(value, entry.name)
        out[entry.name] = item.tolist() if isinstance(item, np.ndarray) else item
    return out

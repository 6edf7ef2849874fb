"""Messages to the stack's own values and back: the border between the ROS graph and the rest.

Stamps become seconds on the process's clock on the way in and ROS time on the way out (`StampConverter`).
Arrays leave as array.array and come in through numpy.frombuffer: assigning an ndarray to a message field
is 100 to 1000 times slower. A message whose lengths contradict each other raises MalformedMessage; it is
never padded and never cut. Fields of one name are copied as they are. Whether the numbers are finite is for
the receiver's gate to judge.
"""

from __future__ import annotations

from array import array
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, JointState

from wm_vla_msgs import msg as wm
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.types import (
    ActionChunk,
    AppliedAction,
    Fault,
    LatentGoal,
    LoopStats,
    Plan,
    RobotState,
    Severity,
)

RGB = "rgb8"
BASE_FRAME = "base"


class MalformedMessage(ValueError):
    """A message that contradicts itself: lengths that do not multiply, an encoding nobody speaks."""


def _rows(data: array, columns: int, what: str) -> NDArray[np.float32]:
    flat = np.frombuffer(data, dtype=np.float32) if len(data) else np.zeros(0, np.float32)
    if columns <= 0 or flat.size == 0 or flat.size % columns:
        raise MalformedMessage(f"{what}: {flat.size} numbers do not make rows of {columns}")
    return flat.reshape(-1, columns)


def _encoded(value: Any) -> Any:
    """A value's field as a message takes it: arrays row-major and flat, in their own type."""
    if isinstance(value, np.ndarray):
        return array(value.dtype.char, value.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value


@cache
def _shared(kind: type, message: type) -> tuple[str, ...]:
    """The fields that a value and its message have under one name."""
    known = message.get_fields_and_field_types()  # type: ignore[attr-defined]
    return tuple(entry.name for entry in fields(kind) if entry.name in known)


def _to_msg[M](kind: type[M], value: Any, stamps: StampConverter, frame: str = "", **differing: Any) -> M:
    """A message with the fields of `value`, but for those that are `differing`, and its stamp."""
    same = {
        name: _encoded(getattr(value, name)) for name in _shared(type(value), kind) if name not in differing
    }
    return _stamped(kind(**same, **differing), value.stamp, stamps, frame)


def _from_msg[V](kind: type[V], message: Any, stamps: StampConverter, **differing: Any) -> V:
    """A value with the fields of `message`, but for those that are `differing`, and its stamp."""
    same = {
        name: tuple(item) if type(item := getattr(message, name)) is list else item
        for name in _shared(kind, type(message))
        if name not in differing
    }
    return kind(stamp=stamps.to_seconds(message.header.stamp), **same, **differing)


def _stamped[M](message: M, stamp: float, stamps: StampConverter, frame: str = "") -> M:
    header = message.header  # type: ignore[attr-defined]
    header.stamp = stamps.to_stamp(stamp)
    header.frame_id = frame
    return message


def joint_state_to_msg(state: RobotState, stamps: StampConverter) -> JointState:
    """JointState with positions and velocities, rad and rad/s."""
    return _to_msg(JointState, state, stamps, name=list(state.names))


def joint_state_from_msg(message: JointState, stamps: StampConverter) -> RobotState:
    """Raises MalformedMessage unless there is one position and one velocity per name."""
    count = len(message.name)
    if len(message.position) != count or len(message.velocity) != count:
        raise MalformedMessage(
            f"joint_states: {count} names, {len(message.position)} positions, "
            f"{len(message.velocity)} velocities"
        )
    return _from_msg(RobotState, message, stamps, names=tuple(message.name))


def plan_to_msg(plan: Plan, stamps: StampConverter, writer: str = "") -> wm.Plan:
    """Actions row-major; start as ROS time. writer: identity of this process."""
    start, columns = stamps.to_stamp(plan.start), plan.actions.shape[1]
    return _to_msg(wm.Plan, plan, stamps, start=start, action_dim=columns, writer=writer)


def plan_from_msg(message: wm.Plan, stamps: StampConverter) -> Plan:
    """Raises MalformedMessage when the actions are not whole rows of action_dim."""
    actions = _rows(message.actions, message.action_dim, "plan actions")
    return _from_msg(Plan, message, stamps, start=stamps.to_seconds(message.start), actions=actions)


def applied_to_msg(applied: AppliedAction, stamps: StampConverter) -> wm.AppliedAction:
    """What was written, with the joint target in rad."""
    return _to_msg(wm.AppliedAction, applied, stamps, BASE_FRAME)


def applied_from_msg(message: wm.AppliedAction, stamps: StampConverter) -> AppliedAction:
    """Raises MalformedMessage when names and positions are not of one length."""
    if len(message.joint_names) != len(message.joint_positions):
        raise MalformedMessage(
            f"applied_action: {len(message.joint_names)} names, {len(message.joint_positions)} positions"
        )
    return _from_msg(AppliedAction, message, stamps)


def chunk_to_msg(chunk: ActionChunk, stamps: StampConverter) -> wm.ActionChunk:
    """Actions row-major."""
    horizon, columns = chunk.actions.shape
    return _to_msg(wm.ActionChunk, chunk, stamps, horizon=horizon, action_dim=columns)


def chunk_from_msg(message: wm.ActionChunk, stamps: StampConverter) -> ActionChunk:
    """Raises MalformedMessage unless there are horizon x action_dim numbers."""
    actions = _rows(message.actions, message.action_dim, "action_chunk actions")
    if len(actions) != message.horizon:
        raise MalformedMessage(f"action_chunk: horizon {message.horizon}, but {len(actions)} rows")
    return _from_msg(ActionChunk, message, stamps, actions=actions)


def goal_to_msg(goal: LatentGoal, stamps: StampConverter) -> wm.LatentGoal:
    """Embeddings row-major; no precision is an empty array."""
    precision = array("f") if goal.precision is None else _encoded(goal.precision)
    return _to_msg(wm.LatentGoal, goal, stamps, dim=goal.embeddings.shape[1], precision=precision)


def goal_from_msg(message: wm.LatentGoal, stamps: StampConverter) -> LatentGoal:
    """Raises MalformedMessage when the embeddings are not whole rows of dim, or the precision not one row."""
    if len(message.precision) not in (0, message.dim):
        raise MalformedMessage(f"latent_goal: dim {message.dim}, but {len(message.precision)} precisions")
    embeddings = _rows(message.embeddings, message.dim, "latent_goal embeddings")
    return _from_msg(LatentGoal, message, stamps, embeddings=embeddings, precision=message.precision or None)


def withdrawal(instruction: str, stamp: float, stamps: StampConverter) -> wm.LatentGoal:
    """The message that ends an instruction: a goal without embeddings; the planner forgets its own."""
    return _stamped(wm.LatentGoal(instruction=instruction), stamp, stamps)


def is_withdrawal(message: wm.LatentGoal) -> bool:
    """Whether `message` takes the goal back instead of setting one."""
    return message.dim == 0 and len(message.embeddings) == 0


def fault_to_msg(fault: Fault, stamps: StampConverter) -> wm.Fault:
    """Severities have the same numbers on both sides."""
    return _to_msg(wm.Fault, fault, stamps, code=str(fault.code), severity=int(fault.severity))


def fault_from_msg(message: wm.Fault, stamps: StampConverter) -> Fault:
    """Raises MalformedMessage for a severity that does not exist."""
    try:
        severity = Severity(message.severity)
    except ValueError as error:
        raise MalformedMessage(f"fault {message.code}: {error}") from error
    return _from_msg(Fault, message, stamps, severity=severity)


def stats_to_msg(stats: LoopStats, stamps: StampConverter) -> wm.LoopStats:
    """The imagined tip path row-major, in the base frame."""
    return _to_msg(wm.LoopStats, stats, stamps, BASE_FRAME)


def stats_from_msg(message: wm.LoopStats, stamps: StampConverter) -> LoopStats:
    """Raises MalformedMessage when the imagined path is not whole points."""
    path = np.zeros((0, 3), np.float32)
    if len(message.imagined_tip):
        path = _rows(message.imagined_tip, 3, "loop_stats imagined_tip")
    return _from_msg(LoopStats, message, stamps, imagined_tip=path)


def image_to_msg(image: NDArray[np.uint8], stamp: Time, frame: str) -> Image:
    """image: (H, W, 3) RGB. stamp: ROS time, unchanged, so that images of one instant match exactly."""
    height, width, _ = image.shape
    message = Image(height=height, width=width, encoding=RGB, step=width * 3)
    message.data = array("B", image.tobytes())
    message.header.stamp = stamp
    message.header.frame_id = frame
    return message


def image_from_msg(message: Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, a read-only view. Raises MalformedMessage for another encoding or size."""
    if message.encoding != RGB:
        raise MalformedMessage(f"image encoding {message.encoding!r}; valid: {RGB}")
    rows, row_bytes = message.height, message.width * 3
    if message.step != row_bytes or len(message.data) != rows * row_bytes or not message.data:
        raise MalformedMessage(
            f"image of {message.width}x{rows}: step {message.step}, {len(message.data)} bytes; "
            f"expected step {row_bytes}, {rows * row_bytes} bytes"
        )
    image = np.frombuffer(message.data, dtype=np.uint8).reshape(rows, message.width, 3)
    image.setflags(write=False)
    return image


def camera_info(height: int, width: int, fovy: float, frame: str) -> CameraInfo:
    """A pinhole without distortion. fovy: vertical field of view, degrees; square pixels."""
    focal = height / (2.0 * np.tan(np.radians(fovy) / 2.0))
    # Integer pixel coordinates are pixel centres, as in OpenCV: the axis meets the corner between four.
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5, k=k)
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.header.frame_id = frame
    return info


def poses_to_msg(poses: NDArray[np.float64], stamp: Time) -> PoseArray:
    """poses: (n, 7), position (3) in m and quaternion (w, x, y, z), base frame. stamp: ROS time."""
    array_of_poses = PoseArray()
    array_of_poses.poses = [_pose(row) for row in poses.tolist()]
    array_of_poses.header.stamp = stamp
    array_of_poses.header.frame_id = BASE_FRAME
    return array_of_poses


def _pose(row: list[float]) -> Pose:
    x, y, z, qw, qx, qy, qz = row
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=qw, x=qx, y=qy, z=qz))


def poses_from_msg(message: PoseArray) -> NDArray[np.float64]:
    """(n, 7): position (3) in m and quaternion (w, x, y, z), in the message's frame."""
    both = [(pose.position, pose.orientation) for pose in message.poses]
    rows = [(at.x, at.y, at.z, turn.w, turn.x, turn.y, turn.z) for at, turn in both]
    return np.array(rows, dtype=np.float64).reshape(-1, 7)

"""Action sequences that the sampler is given, rather than left to find."""

from __future__ import annotations

import math

import numpy as np

from wm_vla_ros.types import EE_ACTION_DIM, EE_DELTA, ActionChunk, FloatArray, Plan

# Fastest motion that following a path may ask for: 0.45 m/s, what play has shown the world model.
_FASTEST = 0.009
# Largest change of that motion from one tick to the next, metres: 5 m/s^2, below what the gate cuts.
_SPEED_CHANGE = 0.002


def check_chunk(chunk: ActionChunk, dt: float) -> None:
    """Raises ValueError unless `chunk` is (horizon, 7) finite end-effector actions of period `dt` seconds."""
    rows, columns = chunk.actions.shape
    if chunk.action_space != EE_DELTA or rows == 0 or columns != EE_ACTION_DIM:
        found = f"{chunk.actions.shape} of {chunk.action_space}"
        raise ValueError(f"a chunk is (horizon, {EE_ACTION_DIM}) of {EE_DELTA}, got {found}")
    if not np.all(np.isfinite(chunk.actions)):
        row, column = np.argwhere(~np.isfinite(chunk.actions))[0]
        raise ValueError(f"chunk action {row}, column {column} is {chunk.actions[row, column]}")
    if abs(chunk.dt - dt) > 1e-6:
        raise ValueError(f"chunk period {chunk.dt} s is not the robot's {dt} s")


def follow_path(
    tip: FloatArray, target: FloatArray, previous: FloatArray, rest: FloatArray, scale: float
) -> FloatArray:
    """Actions (H, A) that bring the tip onto `target` (H, 3) metres and along it, starting at `tip` (3,).

    previous: (A,) the action in force before, which bounds the first one. rest: (H, A), whose entries past
    the translation are kept. scale: metres per tick at 1.
    """
    # In plain floats: for three numbers at a time they are five times faster than arrays.
    at = [float(value) for value in tip]
    before = [float(value) * scale for value in previous[:3]]
    motion = []
    for point in target.tolist():
        wanted = _at_most([p - a for p, a in zip(point, at, strict=True)], _FASTEST)
        change = _at_most([w - b for w, b in zip(wanted, before, strict=True)], _SPEED_CHANGE)
        before = [b + c for b, c in zip(before, change, strict=True)]
        at = [a + b for a, b in zip(at, before, strict=True)]
        motion.append(before)
    actions = np.array(rest, dtype=np.float32)
    actions[:, :3] = np.array(motion) / scale
    return actions


def hold(rest: FloatArray) -> FloatArray:
    """Actions (H, A) of standing still, the gripper as in `rest`."""
    actions = np.zeros_like(rest)
    actions[:, 6:] = rest[:, 6:]
    return actions


def shifted(plan: Plan, start: float, horizon: int) -> FloatArray:
    """The part of `plan` from `start` (seconds) on, its last action repeated up to `horizon` rows.

    By time and not by count: a tick that was missed shifts by two.
    """
    row = max(0, round((start - plan.start) / plan.dt))
    rows = np.minimum(np.arange(row, row + horizon), len(plan.actions) - 1)
    return plan.actions[rows]


def _at_most(vector: list[float], size: float) -> list[float]:
    shrink = min(1.0, size / max(math.hypot(*vector), 1e-9))
    return [value * shrink for value in vector]

"""Action sequences that the sampler is given, rather than left to find."""

from __future__ import annotations

import numpy as np

from wm_vla_ros.types import EE_ACTION_DIM, EE_DELTA, ActionChunk, FloatArray, Plan


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


def hold(rest: FloatArray) -> FloatArray:
    """Actions (H, A) of standing still, the gripper as in `rest`."""
    actions = np.zeros_like(rest)
    actions[:, 6:] = rest[:, 6:]
    return actions


def ticks_since(plan: Plan, start: float) -> int:
    """Ticks from where `plan` starts to `start` (seconds), at least 0.

    By time and not by count: a tick that was missed counts too.
    """
    return max(0, round((start - plan.start) / plan.dt))


def shifted(plan: Plan, start: float, horizon: int) -> FloatArray:
    """The part of `plan` from `start` (seconds) on, its last action repeated up to `horizon` rows."""
    row = ticks_since(plan, start)
    rows = np.minimum(np.arange(row, row + horizon), len(plan.actions) - 1)
    return plan.actions[rows]

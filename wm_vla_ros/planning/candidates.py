"""Action sequences that the sampler is given, rather than left to find."""

from __future__ import annotations

import numpy as np

from wm_vla_ros.types import FloatArray, Plan

# Fastest motion that following a path may ask for: 0.45 m/s, what play has shown the world model.
_FASTEST = 0.009


def follow_path(tip: FloatArray, target: FloatArray, rest: FloatArray, scale: float) -> FloatArray:
    """Actions (H, A) that put the tip on `target` (H, 3) metres tick by tick, starting at `tip` (3,).

    rest: (H, A), whose entries past the translation are kept. scale: metres per tick at 1.
    """
    actions = np.array(rest, dtype=np.float32)
    at = np.asarray(tip, dtype=np.float64)
    for i, point in enumerate(target):
        step = point - at
        size = float(np.linalg.norm(step))
        step = step * min(1.0, _FASTEST / max(size, 1e-9))
        actions[i, :3] = step / scale
        at = at + step
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

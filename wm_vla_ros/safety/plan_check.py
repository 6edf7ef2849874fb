"""Whether a plan can be executed at all: finite, of the right shape, named right, in range; all or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Refused
from wm_vla_ros.safety.limits import JointLimits, names_of
from wm_vla_ros.types import ACTION_SPACES, EE_ACTION_NAMES, EE_DELTA, FloatArray, Plan

_SHORTEST = 1e-3  # s; a shorter action could not be told from the next one
_EE_LOWER = np.array([-1.0] * 6 + [0.0], dtype=np.float32)
_EE_UPPER = np.ones(7, dtype=np.float32)


def executable_actions(plan: Plan, limits: JointLimits) -> FloatArray:
    """The plan's actions (horizon, dim) with columns in the driver's own order.

    ee_delta: 7 columns in [-1, 1], the gripper in [0, 1]. joint_position: a column per joint, rad, within
    the mechanical limits (a target between margin and limit is the gate's to clamp; one beyond is wrong
    in itself, such as degrees sent as radians). Raises Refused: nothing of a bad plan is used.
    """
    if plan.action_space not in ACTION_SPACES:
        known = ", ".join(ACTION_SPACES)
        raise Refused(FaultCode.SPACE, f"action space {plan.action_space[:64]!r} is not one of {known}")
    is_delta = plan.action_space == EE_DELTA
    own = EE_ACTION_NAMES if is_delta else limits.names
    rows, columns = plan.actions.shape
    if rows == 0 or columns != len(own):
        raise Refused(
            FaultCode.SHAPE,
            f"{plan.action_space} needs (horizon >= 1, {len(own)}), got {plan.actions.shape}",
        )
    _check_period(plan, is_delta, limits.dt)
    if not np.isfinite(plan.actions).all():
        row, column = np.argwhere(~np.isfinite(plan.actions))[0]
        raise Refused(FaultCode.NONFINITE, f"action {row}, column {column} is {plan.actions[row, column]}")
    order = column_order(plan.action_names, own) if plan.action_names else None
    actions = plan.actions if order is None else plan.actions[:, order]
    lower = _EE_LOWER if is_delta else limits.hard_lower
    upper = _EE_UPPER if is_delta else limits.hard_upper
    outside = (actions < lower) | (actions > upper)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise Refused(
            FaultCode.RANGE,
            f"action {row}: {own[column]} = {actions[row, column]:.6g} is outside "
            f"[{lower[column]:.6g}, {upper[column]:.6g}]",
        )
    return actions


def column_order(given: Sequence[str], own: Sequence[str]) -> list[int]:
    """Columns of `given` in the order of `own`. Raises Refused naming what is unknown, doubled or missing."""
    unknown = [name for name in given if name not in own]
    if unknown:
        raise Refused(FaultCode.UNKNOWN_NAME, f"unknown {names_of(unknown)}; known: {', '.join(own)}")
    doubled = sorted({name for name in given if list(given).count(name) > 1})
    if doubled:
        raise Refused(FaultCode.DUPLICATE_NAME, f"{names_of(doubled)} appears more than once")
    missing = [name for name in own if name not in given]
    if missing:
        raise Refused(FaultCode.MISSING_NAME, f"missing {names_of(missing)}")
    return [list(given).index(name) for name in own]


def _check_period(plan: Plan, is_delta: bool, dt: float) -> None:
    for name, value in (("stamp", plan.stamp), ("start", plan.start), ("dt", plan.dt)):
        if not np.isfinite(value):
            raise Refused(FaultCode.NONFINITE, f"{name} is {value}")
    # A delta is scaled for one tick of the robot: with another period it would be another speed.
    if is_delta and abs(plan.dt - dt) > 1e-6:
        raise Refused(FaultCode.PERIOD, f"dt {plan.dt:.6g} s: an {EE_DELTA} action lasts {dt:.6g} s")
    if plan.dt < _SHORTEST:
        raise Refused(FaultCode.PERIOD, f"dt must be at least {_SHORTEST} s, got {plan.dt:.6g} s")

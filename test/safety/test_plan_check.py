"""A plan is executable as a whole or not at all, and the refusal names the value."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.drivers.mock import MockSpec
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Refused
from wm_vla_ros.safety.limits import JointLimits
from wm_vla_ros.safety.plan_check import executable_actions
from wm_vla_ros.types import EE_ACTION_NAMES, JOINT_POSITION, Plan

SPEC = MockSpec()
LIMITS = JointLimits.of(SPEC)


def plan(actions: np.ndarray, **changes: object) -> Plan:
    fields = {"stamp": 1.0, "sequence": 1, "source": "mpc", "start": 1.0, "dt": 0.02, "actions": actions}
    return Plan(**{**fields, **changes})


def still(columns: int = 7) -> np.ndarray:
    return np.zeros((3, columns), np.float32)


def joint_plan(target: np.ndarray, **changes: object) -> Plan:
    return plan(np.tile(target, (2, 1)), action_space=JOINT_POSITION, **changes)


def refusal(bad: Plan) -> Refused:
    with pytest.raises(Refused) as caught:
        executable_actions(bad, LIMITS)
    return caught.value


def test_actions_in_range_come_out_as_they_went_in() -> None:
    actions = np.array([[1, -1, 0, 0.5, -0.5, 1, 1], [0, 0, 0, 0, 0, 0, 0]], np.float32)
    assert executable_actions(plan(actions), LIMITS).tolist() == actions.tolist()


def test_columns_follow_their_names() -> None:
    actions = np.arange(7, dtype=np.float32)[None] / 10
    order = [6, 2, 0, 1, 5, 4, 3]
    shuffled = plan(actions[:, order], action_names=tuple(EE_ACTION_NAMES[i] for i in order))
    assert executable_actions(shuffled, LIMITS).tolist() == actions.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_one_bad_number_refuses_the_plan(value: float) -> None:
    actions = still()
    actions[2, 4] = value
    caught = refusal(plan(actions))
    assert caught.code == (FaultCode.RANGE if np.isfinite(value) else FaultCode.NONFINITE)
    assert "action 2" in str(caught)


@pytest.mark.parametrize("columns", [0, 1, 6, 8])
def test_another_number_of_values_is_refused(columns: int) -> None:
    assert refusal(plan(still(columns))).code == FaultCode.SHAPE


def test_an_empty_plan_is_refused() -> None:
    assert refusal(plan(np.zeros((0, 7)))).code == FaultCode.SHAPE


def test_an_unknown_space_is_refused_and_lists_the_valid_ones() -> None:
    caught = refusal(plan(still(), action_space="torque"))
    assert caught.code == FaultCode.SPACE
    assert "ee_delta, joint_position" in str(caught)


@pytest.mark.parametrize("column, value", [(0, 1.0001), (5, -1.5), (6, -0.01), (6, 1.01)])
def test_values_past_the_convention_are_refused_by_name(column: int, value: float) -> None:
    actions = still()
    actions[1, column] = value
    caught = refusal(plan(actions))
    assert caught.code == FaultCode.RANGE
    assert EE_ACTION_NAMES[column] in str(caught)


@pytest.mark.parametrize("dt", [0.0, -0.02, 0.05, 1e-300])
def test_a_delta_lasts_one_tick(dt: float) -> None:
    assert refusal(plan(still(), dt=dt)).code == FaultCode.PERIOD


@pytest.mark.parametrize("dt", [0.0, -1.0, 1e-9])
def test_a_joint_target_lasts_a_while(dt: float) -> None:
    assert refusal(joint_plan(SPEC.home, dt=dt)).code == FaultCode.PERIOD


@pytest.mark.parametrize("name", ["stamp", "start", "dt"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_times_must_be_numbers(name: str, value: float) -> None:
    caught = refusal(plan(still(), **{name: value}))
    assert caught.code == FaultCode.NONFINITE
    assert name in str(caught)


def test_unknown_doubled_and_missing_names_are_named() -> None:
    names = list(SPEC.joint_names)
    unknown = refusal(joint_plan(SPEC.home, action_names=("elbow_2", *names[1:])))
    assert unknown.code == FaultCode.UNKNOWN_NAME
    assert "elbow_2" in str(unknown)
    assert "gripper" in str(unknown)  # the valid ones
    doubled = refusal(joint_plan(SPEC.home, action_names=("lift", *names[1:])))
    assert doubled.code == FaultCode.DUPLICATE_NAME
    assert "lift" in str(doubled)
    missing = refusal(joint_plan(SPEC.home, action_names=tuple(names[1:])))
    assert missing.code == FaultCode.MISSING_NAME
    assert "pan" in str(missing)


def test_a_joint_target_past_the_mechanical_limit_is_refused_and_one_in_the_margin_is_not() -> None:
    inside = SPEC.home.copy()
    inside[1] = SPEC.upper[1] - 0.01
    assert executable_actions(joint_plan(inside), LIMITS)[0, 1] == pytest.approx(inside[1])
    outside = SPEC.home.copy()
    outside[1] = SPEC.upper[1] + 0.01
    caught = refusal(joint_plan(outside))
    assert caught.code == FaultCode.RANGE
    assert "lift" in str(caught)

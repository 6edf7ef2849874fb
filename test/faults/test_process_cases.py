"""Processes of a running stack are killed and stopped; the driver is real, the models have stand-ins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wm_vla_ros.bringup.runner import command_line
from wm_vla_ros.bringup.session import StackRefused
from wm_vla_ros.bringup.stack import FAST, SLOW, NodeSpec
from wm_vla_ros.faults import campaign
from wm_vla_ros.faults.driver_judge import HOLD_WITHIN
from wm_vla_ros.faults.process_cases import CASES, run_processes

STAND_INS = Path(__file__).parents[1] / "ros" / "stand_ins"


def with_stand_ins(node: NodeSpec, namespace: str) -> list[str]:
    script = {FAST: "planner.py", SLOW: "policy.py"}.get(node.name)
    if script is None:
        return command_line(node, namespace)
    return [sys.executable, str(STAND_INS / script), "--ros-args", "-r", f"__ns:=/{namespace}"]


def without_planner(node: NodeSpec, namespace: str) -> list[str]:
    if node.name == FAST:
        return [sys.executable, "-c", "print('no planner here'); raise SystemExit(3)"]
    return with_stand_ins(node, namespace)


@pytest.mark.graph
@pytest.mark.slow
def test_the_driver_holds_when_a_process_dies_or_stops() -> None:
    seen = list(run_processes((13, 14, 19), 1, "so101", lambda line: None, with_stand_ins))
    assert [case for case, _ in seen] == list(CASES)
    for case, outcomes in seen:
        assert [outcome.violations for outcome in outcomes] == [()], case
        assert all(outcome.hold is not None and outcome.hold <= HOLD_WITHIN for outcome in outcomes), case


@pytest.mark.graph
def test_a_stack_that_does_not_start_is_told_with_its_last_words() -> None:
    with pytest.raises(StackRefused, match=r"mpc_node refused to start[\s\S]*no planner here"):
        list(run_processes((13,), 1, "so101", lambda line: None, without_planner))


def test_no_stack_is_started_when_no_case_needs_one() -> None:
    def never(node: NodeSpec, namespace: str) -> list[str]:
        raise AssertionError("started a stack")

    assert list(run_processes((1, 78), 20, "so101", lambda line: None, never)) == []
    assert list(run_processes((13,), 0, "so101", lambda line: None, never)) == []


def test_steps_count_what_will_be_shown() -> None:
    assert campaign.steps((1, 2), 20) == 2
    assert campaign.steps((6,), 20) == 2  # on the mock and on the robot's kinematics
    assert campaign.steps((13, 14, 19), 20) == 5 + len(CASES)
    assert campaign.steps((13, 14, 19), 0) == 5
    assert campaign.steps((16,), 1) == 2
    assert campaign.steps((25, 26), 1) == 2
    assert campaign.steps((25, 26), 0) == 0

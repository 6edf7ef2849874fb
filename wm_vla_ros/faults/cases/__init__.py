"""The fault campaign's cases that need no process: each injects its fault into the real driver core.

A case's docstring is its row: number | inject | expected. It gets a rig that holds, moves it, does its worst
and says what it saw; the invariants and the deadlines are judged by the rig in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wm_vla_ros.faults.belief_rig import BeliefRig
from wm_vla_ros.faults.cases import goals, motion, perception, plans, stops
from wm_vla_ros.faults.driver_rig import DriverRig

Case = Callable[[DriverRig], None]
BeliefCase = Callable[[BeliefRig], None]


def _numbered[C: Callable[[Any], None]](*cases: C) -> dict[int, C]:
    return {int((case.__doc__ or "").split("|")[0]): case for case in cases}


CASES: dict[int, Case] = _numbered(
    plans.nan_in_action,
    plans.infinite_action,
    plans.wrong_length,
    plans.unknown_joint,
    plans.permuted_joints,
    motion.outside_limits,
    motion.step_of_pi,
    motion.bang_bang,
    plans.degrees_as_radians,
    plans.old_stamp,
    plans.future_stamp,
    plans.replayed_sequence,
    motion.planner_killed,
    motion.planner_stopped,
    motion.slow_plan,
    stops.wall_clock_jump,
    plans.two_publishers,
    stops.estop,
    stops.estop_released,
    stops.reset_in_stream,
    stops.restart_while_stopped,
    perception.joint_broken,
)
# These are about what stands above the driver, and run with joints, belief and planner around it.
BELIEF_CASES: dict[int, BeliefCase] = _numbered(
    motion.cycles_overrun,
    perception.nothing_finite,
    goals.slow_node_killed,
    goals.stale_goal,
    goals.wrong_dimension,
    goals.bad_numbers,
    goals.foreign_encoder,
    goals.out_of_order,
    perception.joints_out_of_order,
    perception.joints_lost,
    perception.joint_missing,
    perception.belief_diverges,
)
# Motion itself is what these are about: they run on a real robot's kinematics too.
MOTION_CASES = (6, 7, 8, 13, 14)


def row(case: Case | BeliefCase) -> tuple[str, str]:
    """What the case injects, and what is expected."""
    _, inject, expected = (part.strip() for part in (case.__doc__ or "").split("|"))
    return inject, expected

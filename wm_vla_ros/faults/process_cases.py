"""Cases that kill or pause a process of the running stack, in the middle of a motion.

Killing and pausing are the operating system's own: no model of a dead process stands in for one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wm_vla_ros.bringup.runner import Command, command_line
from wm_vla_ros.bringup.stack import FAST, SLOW
from wm_vla_ros.faults.driver_judge import HOLD_WITHIN
from wm_vla_ros.faults.invariants import judge_running
from wm_vla_ros.faults.live_stack import LiveStack, live_stack
from wm_vla_ros.safety.watchdog import Freshness
from wm_vla_ros.tasks.task import TASKS
from wm_vla_ros.types import AppliedAction, Plan

_HOLDS_WITHIN = 10.0  # s after the strike: longer than any plan or goal is valid
_RECORDED_ON = 1.0  # s after the hold has begun
_PAUSE = 5.0  # s
_FAULTS_LATE = 0.3  # s that a fault may be behind the action that it announces
# Faster than this, the arm counts as moving; rad per tick of any joint.
_MOVING = 0.004
_ATTEMPTS = 20  # at an instruction that is accepted, and that moves the arm


@dataclass(frozen=True)
class ProcessOutcome:
    """One run. hold: s from the last valid action's write to the first of the hold, None without one."""

    violations: tuple[str, ...]
    hold: float | None


@dataclass(frozen=True)
class ProcessCase:
    """Number in FAULTS order, and the node whose process is killed, or paused and continued."""

    number: int
    victim: str
    killed: bool
    inject: str
    expected: str


class MovingStack(LiveStack):
    """A stack that reaches for one cube after the other."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._instructions = itertools.cycle([task.instruction for task in TASKS["reach"]])

    def run(self, case: ProcessCase, rng: np.random.Generator) -> ProcessOutcome:
        """Move the arm, strike in mid-motion, and judge all that was written since."""
        begun = self._move(rng)
        struck = time.monotonic()
        went_on = self.kill(case.victim) if case.killed else self.pause(case.victim, _PAUSE)
        held = self.wait_for(
            lambda: _hold_after(self.recording.applied[begun:], struck) is not None, _HOLDS_WITHIN
        )
        self.wait(_RECORDED_ON)
        applied = self.recording.applied[begun:]
        violations = judge_running(
            applied, self.recording.faults, self.spec, applied[-1].stamp - _FAULTS_LATE
        )
        strangers = {each.source for each in applied} - {"mpc", "driver"}
        violations += [f"I4 {source!r} commanded" for source in strangers]
        if case.killed:
            self.replace(case.victim)
        else:
            violations += _stale(applied, self.recording.plans, went_on)
        if not held:
            return ProcessOutcome((*violations, f"no HOLD within {_HOLDS_WITHIN} s"), None)
        last, first = _hold_after(applied, struck) or (0.0, 0.0)
        if first - last > HOLD_WITHIN:
            violations.append(f"HOLD {1e3 * (first - last):.1f} ms after the last valid action")
        return ProcessOutcome(tuple(violations), first - last)

    def _move(self, rng: np.random.Generator) -> int:
        """Give instructions until the arm moves; returns the number of actions applied before.

        Raises TimeoutError when it does not.
        """
        for _ in range(_ATTEMPTS):
            begun = len(self.recording.applied)
            self._instruct(next(self._instructions))
            if not self.wait_for(self._in_motion, 5.0):
                continue  # it was there already
            self.wait(rng.uniform(0.0, 0.3))
            if self._in_motion():
                return begun
        raise TimeoutError(f"the arm did not move on {_ATTEMPTS} instructions")

    def _instruct(self, instruction: str) -> None:
        # A server that was killed is still on the graph for a while, and never answers.
        if not any(self.client.execute(instruction).accepted(2.0) for _ in range(_ATTEMPTS)):
            raise TimeoutError(f"nobody accepted {instruction!r}")

    def _in_motion(self) -> bool:
        recent = self.recording.applied[-4:]
        if len(recent) < 4 or any("hold" in each.changes for each in recent):
            return False
        if time.monotonic() - recent[-1].stamp > 3 * self.spec.dt:
            return False
        return bool(np.max(np.abs(recent[-1].joint_positions - recent[-2].joint_positions)) > _MOVING)


def _hold_after(applied: list[AppliedAction], struck: float) -> tuple[float, float] | None:
    """(last valid action, first of the hold) of the first hold that began after `struck`, s."""
    for before, each in itertools.pairwise(applied):
        if each.stamp > struck and "hold" in each.changes and "hold" not in before.changes:
            return before.stamp, each.stamp
    return None


def _stale(applied: list[AppliedAction], plans: list[Plan], went_on: float) -> list[str]:
    """Actions executed after the victim went on, of plans made from what it saw before it was paused."""
    stamps = {plan.sequence: plan.stamp for plan in plans}
    oldest = went_on - Freshness().max_age
    old = [
        each.sequence
        for each in applied
        if each.stamp > went_on and "hold" not in each.changes and stamps.get(each.sequence, -np.inf) < oldest
    ]
    return [f"{len(old)} stale actions executed, of plans {sorted(set(old))}"] if old else []


CASES = (
    ProcessCase(
        13,
        FAST,
        True,
        "planner killed (SIGKILL) on the running stack",
        "HOLD <= 100 ms after its last plan runs out",
    ),
    ProcessCase(
        19,
        SLOW,
        True,
        "slow node killed (SIGKILL) on the running stack",
        "goal used until it runs out, then HOLD <= 100 ms",
    ),
    ProcessCase(
        14,
        FAST,
        False,
        "planner stopped 5 s (SIGSTOP) on the running stack, then continued",
        "HOLD; no burst, 0 stale actions executed",
    ),
)


def run_processes(
    numbers: tuple[int, ...],
    runs: int,
    robot: str,
    log: Callable[[str], None],
    command: Command = command_line,
) -> Iterator[tuple[ProcessCase, list[ProcessOutcome]]]:
    """Every case in `numbers` that needs processes, `runs` times each, on one stack.

    log: takes the stack's lines. Raises StackRefused when the stack cannot be brought to move.
    """
    chosen = [case for case in CASES if case.number in numbers]
    if not chosen or runs == 0:
        return
    with live_stack(MovingStack, robot, log, command) as stack:
        for case in chosen:
            rng = np.random.default_rng([case.number, runs])
            yield case, [stack.run(case, rng) for _ in range(runs)]

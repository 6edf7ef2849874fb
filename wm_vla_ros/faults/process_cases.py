"""Cases that end or stop a process of the running stack, in the middle of a motion.

The stack is the one that `wm-vla up sim` brings up, under a namespace of its own. What is judged is what its
driver says it wrote: the applied actions, which carry each joint target and the time of its write.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from wm_vla_ros.bringup.runner import StackRunner, command_line
from wm_vla_ros.bringup.stack import DRIVER, FAST, SLOW, NodeSpec, StackSpec, stack_kind
from wm_vla_ros.faults.driver_judge import HOLD_WITHIN
from wm_vla_ros.faults.invariants import interventions, judge_record, unannounced
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.safety.watchdog import Freshness
from wm_vla_ros.tasks.task import TASKS
from wm_vla_ros.types import AppliedAction

if TYPE_CHECKING:
    from wm_vla_ros.bringup.watch import GraphWatch

Command = Callable[[NodeSpec, str], list[str]]
_STARTS_WITHIN = 180.0  # s; on a busy machine a slow policy's libraries take their time
_HOLDS_WITHIN = 10.0  # s after the strike: longer than any plan or goal is valid
_LOOKED_AT = 1.0  # s after the hold has begun
_STOPPED = 5.0  # s
# How far two stamps of one moment may differ after going through ROS time, s.
_TIMING = 1e-3
# Faster than this, the arm counts as moving; rad per tick of any joint.
_MOVING = 0.004
_ATTEMPTS = 20


class StackFailed(RuntimeError):
    """The stack did not do what a case needs before its fault can be injected."""


@dataclass(frozen=True)
class Outcome:
    """One run. hold: s from the last valid action's write to the first of the hold, None without one."""

    violations: tuple[str, ...]
    hold: float | None


@dataclass(frozen=True)
class GraphCase:
    """Number in FAULTS order, what is struck, and how."""

    number: int
    victim: str
    inject: str
    expected: str
    strike: Callable[[LiveStack, str], float]


class LiveStack:
    """The simulated stack, each node under a runner of its own so that one can be struck and replaced.

    command: what starts a node, as in `StackRunner`; tests put stand-ins for the models there.
    """

    def __init__(self, robot: str, log: Callable[[str], None], command: Command = command_line) -> None:
        self._command = command
        self._spec = load_robot(robot)
        namespace = f"faults_{os.getpid()}"
        self._stack = stack_kind("sim").build(namespace, robot=robot)
        self._log = log
        self._lines: list[str] = []
        self._runners: dict[str, StackRunner] = {}
        self._exits = ExitStack()
        self._words = itertools.cycle([task.instruction for task in TASKS["reach"]])
        self.watch: GraphWatch

    def __enter__(self) -> LiveStack:
        from wm_vla_ros.bringup.watch import GraphWatch

        with self._exits:
            self.watch = self._exits.enter_context(GraphWatch(self._stack.namespace))
            self._exits.callback(self._stop)
            for node in self._stack.nodes:
                self._start(node)
            for node in self._stack.nodes:
                self._await_active(node.name)
            self._exits = self._exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def kill(self, victim: str) -> float:
        """SIGKILL; returns when, s."""
        os.kill(self._runners[victim].pid(victim), signal.SIGKILL)
        return time.monotonic()

    def suspend(self, victim: str) -> float:
        """SIGSTOP, 5 s, SIGCONT; returns when it went on, s."""
        pid = self._runners[victim].pid(victim)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(_STOPPED)
        finally:
            os.kill(pid, signal.SIGCONT)
        return time.monotonic()

    def replace(self, victim: str) -> None:
        """Start a new process in the place of one that was killed."""
        self._runners.pop(victim).stop()
        self._start(next(node for node in self._stack.nodes if node.name == victim))
        self._await_active(victim)

    def run(self, case: GraphCase, rng: np.random.Generator) -> Outcome:
        """Move the arm, strike in mid-motion, and judge all that was written since."""
        begun = self._moving(rng)
        struck = time.monotonic()
        went_on = case.strike(self, case.victim)
        held = self.watch.wait(lambda: self._hold_after(struck) is not None, _HOLDS_WITHIN)
        until = max(time.monotonic(), went_on) + _LOOKED_AT
        self.watch.wait(lambda: time.monotonic() > until, _LOOKED_AT + 1.0)
        violations = self._judge(begun, went_on if case.strike is LiveStack.suspend else None)
        if case.strike is LiveStack.kill:
            self.replace(case.victim)
        if not held:
            return Outcome((*violations, f"no HOLD within {_HOLDS_WITHIN} s"), None)
        last, first = self._hold_after(struck) or (0.0, 0.0)
        if first - last > HOLD_WITHIN:
            violations.append(f"HOLD {1e3 * (first - last):.1f} ms after the last valid action")
        return Outcome(tuple(violations), first - last)

    def _moving(self, rng: np.random.Generator) -> int:
        """Give instructions until the arm moves; returns the number of actions applied before."""
        for _ in range(_ATTEMPTS):
            begun = len(self.watch.applied)
            try:
                self.watch.instruct(next(self._words), timeout=_STARTS_WITHIN)
            except TimeoutError as error:
                raise StackFailed(f"{error}{self._last_words()}") from error
            if not self.watch.wait(self._in_motion, 5.0):
                continue  # it was there already
            moment = time.monotonic() + rng.uniform(0.0, 0.3)
            self.watch.wait(lambda: time.monotonic() > moment, 1.0)  # noqa: B023
            if self._in_motion():
                return begun
        raise StackFailed(f"the arm did not move on {_ATTEMPTS} instructions{self._last_words()}")

    def _in_motion(self) -> bool:
        recent = self.watch.applied[-4:]
        if len(recent) < 4 or any("hold" in each.changes for each in recent):
            return False
        if time.monotonic() - recent[-1].stamp > 3 * self._spec.dt:
            return False
        steps = np.diff([each.joint_positions for each in recent], axis=0)
        return bool(np.max(np.abs(steps[-1])) > _MOVING)

    def _hold_after(self, struck: float) -> tuple[float, float] | None:
        """(last valid action, first of the hold) of the first hold that began after `struck`, s."""
        for before, each in itertools.pairwise(list(self.watch.applied)):
            if each.stamp > struck and "hold" in each.changes and "hold" not in before.changes:
                return before.stamp, each.stamp
        return None

    def _judge(self, begun: int, went_on: float | None) -> list[str]:
        applied = self.watch.applied[begun:]
        violations = judge_record(applied, self._spec)
        ready = [each for each in interventions(applied) if each[0] < applied[-1].stamp - 0.3]
        violations += unannounced(ready, list(self.watch.faults), _TIMING)
        strangers = {each.source for each in applied} - {"mpc", "driver"}
        violations += [f"I4 {source!r} commanded" for source in strangers]
        if went_on is not None:
            violations += self._stale(applied, went_on)
        return violations

    def _stale(self, applied: list[AppliedAction], went_on: float) -> list[str]:
        """Actions executed after the victim went on, of plans made from what it saw before it was stopped."""
        fresh = Freshness()
        stamps = {plan.sequence: plan.stamp for plan in self.watch.plans}
        old = [
            each.sequence
            for each in applied
            if each.stamp > went_on
            and "hold" not in each.changes
            and stamps.get(each.sequence, -np.inf) < went_on - fresh.max_age
        ]
        return [f"{len(old)} stale actions executed, of plans {sorted(set(old))}"] if old else []

    def _start(self, node: NodeSpec) -> None:
        if node.name == DRIVER:  # a latch of an earlier use of this machine is none of this campaign's
            node = replace(node, parameters={**node.parameters, "keep_latch": False})
        stack = StackSpec(self._stack.name, self._stack.namespace, (node,))
        self._lines = [line for line in self._lines if not line.startswith(f"[{node.name}]")]
        self._runners[node.name] = StackRunner(stack, self._heard, command=self._command).__enter__()

    def _await_active(self, name: str) -> None:
        def active() -> bool:
            return any(line.startswith(f"[{name}]") and line.endswith("active") for line in list(self._lines))

        def over() -> bool:
            return active() or bool(self._runners[name].poll())

        if not self.watch.wait(over, _STARTS_WITHIN) or not active():
            raise StackFailed(f"{name} did not become active{self._last_words()}")

    def _heard(self, line: str) -> None:
        self._lines.append(line)
        self._log(line)

    def _last_words(self) -> str:
        return "".join(f"\n  {line}" for line in self._lines[-8:])

    def _stop(self) -> None:
        for runner in reversed(self._runners.values()):
            runner.stop()


CASES = (
    GraphCase(
        13,
        FAST,
        "planner killed (SIGKILL) on the running stack",
        "HOLD <= 100 ms after its last plan runs out",
        LiveStack.kill,
    ),
    GraphCase(
        19,
        SLOW,
        "slow node killed (SIGKILL) on the running stack",
        "goal used until it runs out, then HOLD <= 100 ms",
        LiveStack.kill,
    ),
    GraphCase(
        14,
        FAST,
        "planner stopped 5 s (SIGSTOP) on the running stack, then continued",
        "HOLD; no burst, 0 stale actions executed",
        LiveStack.suspend,
    ),
)


def run_graph(
    numbers: tuple[int, ...],
    runs: int,
    robot: str,
    log: Callable[[str], None],
    command: Command = command_line,
) -> Iterator[tuple[GraphCase, list[Outcome]]]:
    """Every case in `numbers` that needs processes, `runs` times each, on one stack.

    log: takes the stack's lines. Raises StackFailed when the stack cannot be brought to move.
    """
    chosen = [case for case in CASES if case.number in numbers]
    if not chosen or runs == 0:
        return
    with LiveStack(robot, log, command) as stack:
        for case in chosen:
            rng = np.random.default_rng([case.number, runs])
            yield case, [stack.run(case, rng) for _ in range(runs)]

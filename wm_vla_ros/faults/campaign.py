"""The fault campaign: which cases there are, their runs, and what they add up to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from wm_vla_ros.drivers.mock import MockSpec
from wm_vla_ros.faults import load_cases, process_cases
from wm_vla_ros.faults.belief_rig import BeliefRig, BeliefWorld
from wm_vla_ros.faults.cases import BELIEF_CASES, CASES, MOTION_CASES, row
from wm_vla_ros.faults.driver_rig import DriverRig, World, mock_world, robot_world
from wm_vla_ros.faults.gate_case import gate_under_fire
from wm_vla_ros.report import Figure, Report, conditions

GATE_CASE = 78
GATE_ACTIONS = 1_000_000
# These need the running stack, and nothing of them runs without it.
STACK_CASES = tuple(case.number for case in load_cases.CASES if case.number not in BELIEF_CASES)
VALID_CASES = tuple(sorted((*CASES, *BELIEF_CASES, *STACK_CASES, GATE_CASE)))
# In the list of faults, but not run here, and why.
_ELSEWHERE = {18: "running out of memory on the accelerator needs a GPU, and nothing here runs on one"}


@dataclass(frozen=True)
class CaseResult:
    """One case in one place (where). violations: how many, examples: the first few in words."""

    number: int
    where: str
    inject: str
    expected: str
    runs: int
    violations: int
    examples: tuple[str, ...]
    hold_max_ms: float | None
    seconds: float
    figures: tuple[Figure, ...] = ()

    @property
    def passed(self) -> bool:
        return self.violations == 0


def parse_cases(text: str) -> tuple[int, ...]:
    """Case numbers of "1-15,36,38". Raises ValueError for anything else, listing the valid numbers."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            begin = int(first)
            end = int(last) if dash else begin
        except ValueError:
            raise ValueError(f"{part.strip()!r} is no case number; valid cases: {_listed()}") from None
        chosen = range(begin, end + 1)
        for number in chosen:
            if number in _ELSEWHERE:
                raise ValueError(f"case {number}: {_ELSEWHERE[number]}; valid cases: {_listed()}")
        unknown = [number for number in chosen if number not in VALID_CASES]
        if unknown or not chosen:
            wrong = ", ".join(map(str, unknown)) or part.strip()
            raise ValueError(f"unknown case {wrong}; valid cases: {_listed()}")
        numbers.update(chosen)
    return tuple(sorted(numbers))


def run_pure(
    numbers: tuple[int, ...], runs: int, robot: str, gate_actions: int = GATE_ACTIONS
) -> Iterator[CaseResult]:
    """The cases that need no process, each over `runs` seeds.

    Motion cases run on `robot`'s kinematics too, those about the belief there alone.
    """
    mock = mock_world()
    real = robot_world(robot) if set(numbers) & set(MOTION_CASES) else mock
    for number in numbers:
        if number in STACK_CASES:
            continue
        if number == GATE_CASE:
            yield _gate_case(gate_actions)
            continue
        if number in BELIEF_CASES:
            yield _run_belief_case(number, robot, runs)
            continue
        yield _run_case(number, mock, runs)
        if number in MOTION_CASES:
            yield _run_case(number, real, runs)


def steps(numbers: tuple[int, ...], graph_runs: int) -> int:
    """How many results `run_all` yields."""
    alone = set(numbers) - set(STACK_CASES)
    cases = (*process_cases.CASES, *load_cases.CASES)
    on_graph = sum(case.number in numbers for case in cases) if graph_runs else 0
    return len(alone) + len(alone & set(MOTION_CASES)) + on_graph


def run_all(
    numbers: tuple[int, ...], runs: int, robot: str, graph_runs: int, log: Callable[[str], None]
) -> Iterator[CaseResult]:
    """Every case in `numbers`: those without processes, then those on the running stack."""
    yield from run_pure(numbers, runs, robot)
    begun = time.monotonic()
    for case, outcomes in process_cases.run_processes(numbers, graph_runs, robot, log):
        violations = [f"run {i}: {text}" for i, each in enumerate(outcomes) for text in each.violations]
        holds = [each.hold for each in outcomes if each.hold is not None]
        where = f"stack: {case.victim}"
        words = (case.inject, case.expected)
        yield _result(case.number, where, words, len(outcomes), violations, holds, begun)
        begun = time.monotonic()
    for load, loads in load_cases.run_load(numbers, graph_runs, robot, log):
        violations = [f"run {i}: {text}" for i, each in enumerate(loads) for text in each.violations]
        words = (load.inject, load.expected)
        result = _result(load.number, "stack: mpc_node", words, len(loads), violations, [], begun)
        yield replace(result, figures=load.figures(loads))
        begun = time.monotonic()


def summarise(results: list[CaseResult], chosen: dict[str, object], with_cases: bool) -> Report:
    """The campaign's figures. chosen: the settings; with_cases: put every case's row in conditions.cases."""
    numbers = sorted({result.number for result in results})
    passed = sum(all(r.passed for r in results if r.number == number) for number in numbers)
    holds = [result.hold_max_ms for result in results if result.hold_max_ms is not None]
    figures = [
        Figure("faults.violations", sum(result.violations for result in results), "", _runs(results)),
        Figure("faults.cases_passed", passed, "cases", len(numbers)),
    ]
    if holds:
        figures.insert(1, Figure("faults.hold_max_ms", max(holds), "ms", _runs(results)))
    figures += [figure for result in results for figure in result.figures]
    if not with_cases:
        return Report("faults", conditions() | chosen, tuple(figures))
    rows = [
        {
            "case": result.number,
            "where": result.where,
            "runs": result.runs,
            "violations": result.violations,
            "examples": list(result.examples),
            "hold_max_ms": result.hold_max_ms,
            "seconds": round(result.seconds, 1),
        }
        for result in results
    ]
    return Report("faults", conditions() | chosen | {"cases": rows}, tuple(figures))


def _run_case(number: int, world: World, runs: int) -> CaseResult:
    case = CASES[number]
    violations: list[str] = []
    holds: list[float] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(runs):
            rig = DriverRig(world, seed, latch_file=Path(folder) / f"{seed}.estop")
            case(rig)
            rig.finish()
            violations += [f"seed {seed}: {text}" for text in rig.violations]
            holds += rig.holds
    return _result(number, world.name, row(case), runs, violations, holds, begun)


def _run_belief_case(number: int, robot: str, runs: int) -> CaseResult:
    case, world = BELIEF_CASES[number], BeliefWorld(robot)
    violations: list[str] = []
    holds: list[float] = []
    begun = time.monotonic()
    for seed in range(runs):
        rig = BeliefRig(world, seed)
        case(rig)
        rig.finish()
        violations += [f"seed {seed}: {text}" for text in rig.violations]
        holds += rig.judge.holds
    return _result(number, world.name, row(case), runs, violations, holds, begun)


def _gate_case(actions: int) -> CaseResult:
    begun = time.monotonic()
    violations = gate_under_fire(MockSpec(), actions, seed=GATE_CASE)
    words = (f"{actions:,} random actions and times at the gate", "0 invariant breaks")
    return _result(GATE_CASE, "gate", words, actions, violations, [], begun)


def _result(
    number: int,
    where: str,
    words: tuple[str, str],
    runs: int,
    violations: list[str],
    holds: list[float],
    begun: float,
) -> CaseResult:
    return CaseResult(
        number,
        where,
        *words,
        runs,
        len(violations),
        tuple(violations[:3]),
        round(max(holds) * 1e3, 3) if holds else None,
        time.monotonic() - begun,
    )


def _runs(results: list[CaseResult]) -> int:
    return sum(result.runs for result in results if result.number != GATE_CASE)


def _listed() -> str:
    """The valid numbers with runs of neighbours folded: "1-15, 36"."""
    parts: list[list[int]] = []
    for number in VALID_CASES:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)

"""The cases that load the running stack: what they judge, and that the stack passes them."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.drivers.mock import MockSpec
from wm_vla_ros.faults import load_cases
from wm_vla_ros.faults.load_cases import (
    CASES,
    Load,
    LoadCase,
    cycles_overrun,
    goal_flood,
    judge_span,
    long_inferences,
    run_load,
)
from wm_vla_ros.recording import Recording
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.types import AppliedAction, Fault, LoopStats, Severity

SPEC = MockSpec()


def recording(rate: float, seconds: float = 10.0, jump_at: int | None = None) -> Recording:
    """An arm that stands still, beside a fast loop that makes `rate` cycles a second from 0 s on."""
    seen = Recording()
    for k in range(int(seconds * rate)):
        seen.stats.append(LoopStats(k / rate, k, 0.0, 3.0, 20.0, 0.0, 0.0, 1, 0, ""))
    for k in range(int(seconds / SPEC.dt)):
        target = SPEC.home + (0.3 if jump_at is not None and k >= jump_at else 0.0)
        seen.applied.append(
            AppliedAction(k * SPEC.dt, k, "mpc", np.zeros(7, np.float32), SPEC.joint_names, target)
        )
    return seen


class FakeStack:
    """In the stack's place. grows: MB by the flood. achieved: goals a second. infers: s to a chunk."""

    def __init__(self, rate=50.0, grows=0.5, achieved=1000.0, refuses=True, infers=0.0) -> None:
        self.recording, self.client, self.inferences = Recording(), self, []
        self._rate, self._grows, self._achieved, self._infers = rate, grows, achieved, infers
        self._refuses = refuses
        self._memory, self._latency = 100.0, 0.0
        self.latencies: list[float] = []

    def execute(self, instruction: str, time_limit: float = 0.0) -> FakeStack:
        self.inferences.append(load_cases.time.monotonic() + (self._infers or self._latency + 0.3))
        return self

    def cancel(self) -> None:
        """The instruction ends."""

    def set_parameters(self, node: str, vla_latency: float) -> None:
        self._latency = vla_latency
        self.latencies.append(vla_latency)

    def memory(self, node: str) -> float:
        return self._memory

    def wait(self, seconds: float) -> None:
        load_cases.time.sleep(seconds)

    def flood(self, seconds: float, rate: float) -> float:
        load_cases.time.sleep(seconds)
        self._memory += self._grows
        if self._refuses:
            now = load_cases.time.monotonic()
            self.recording.faults.append(Fault(now, FaultCode.GOAL_REFUSED, Severity.WARNING, "mpc", ""))
        return self._achieved

    def pause(self, node: str, seconds: float) -> None:
        load_cases.time.sleep(seconds)

    def judged(self, start: float, end: float, least: float = 49.0) -> tuple[list[str], float]:
        return ([] if self._rate >= least else ["slow"]), self._rate


class FakeTime:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self._now = 100.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture(autouse=True)
def _no_waiting(request, monkeypatch):
    if "graph" not in request.keywords:
        monkeypatch.setattr(load_cases, "time", FakeTime())


def test_the_rate_is_of_the_cycles_that_were_made() -> None:
    assert judge_span(recording(50.0), SPEC, 1.0, 9.0) == ([], pytest.approx(50.0, abs=0.2))
    violations, rate = judge_span(recording(48.0), SPEC, 1.0, 9.0)
    assert rate == pytest.approx(48.0, abs=0.2)
    assert violations == [f"the fast loop made {rate:.2f} cycles a second"]


def test_a_loop_that_stops_half_way_is_slow_over_the_whole_time() -> None:
    seen = recording(50.0)
    seen.stats = seen.stats[:300]
    assert judge_span(seen, SPEC, 1.0, 9.0)[1] == pytest.approx(31.25, abs=0.2)
    assert judge_span(Recording(), SPEC, 1.0, 9.0)[1] == 0.0


def test_what_the_driver_wrote_meanwhile_is_judged() -> None:
    violations, _ = judge_span(recording(50.0, jump_at=250), SPEC, 1.0, 9.0)
    assert any("I3" in text for text in violations)
    assert judge_span(recording(50.0, jump_at=480), SPEC, 1.0, 9.0)[0] == []


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"grows": 5.1}, "memory grew by 5.1 MB"),
        ({"achieved": 900.0}, "only 900 goals"),
        ({"refuses": False}, "no bad goal was refused"),
        ({"rate": 40.0}, "slow"),
    ],
)
def test_a_flood_that_harms_or_does_not_come_is_noticed(wrong, words) -> None:
    assert goal_flood(FakeStack(), 0) == Load((), 50.0, pytest.approx(0.5))
    assert any(words in text for text in goal_flood(FakeStack(**wrong), 0).violations)


@pytest.mark.parametrize(
    "texts, words",
    [
        ([], "no degraded fault"),
        ([(1.3, "p99 40 ms")], "after [1.3] s"),
        ([(0.5, "3 of 50 cycles")], "no p99"),
    ],
)
def test_lost_time_that_is_told_late_or_without_its_p99_is_noticed(texts, words) -> None:
    def stack(texts) -> FakeStack:
        made, begun = FakeStack(rate=47.0), load_cases.time.monotonic() + load_cases._SETTLED
        for after, text in texts:
            fault = Fault(begun + after, FaultCode.DEGRADED, Severity.WARNING, "mpc", text)
            made.recording.faults.append(fault)
        return made

    assert cycles_overrun(stack([(0.5, "p99 40 ms")]), 0) == Load((), 47.0)
    (violation,) = cycles_overrun(stack(texts), 0).violations
    assert words in violation


def test_a_flood_that_was_held_back_is_repeated_and_its_harm_counts() -> None:
    stack = FakeStack(grows=5.1)
    rates = iter([600.0, 1000.0])
    stack.flood, flood = lambda *given: flood(*given) and next(rates), stack.flood
    assert goal_flood(stack, 0).violations == ("the planner's memory grew by 5.1 MB",) * 2
    assert next(rates, None) is None


def test_inferences_take_each_of_the_times_in_turn_and_none_in_the_end() -> None:
    stack = FakeStack()
    assert [long_inferences(stack, run).violations for run in range(5)] == [()] * 5
    assert stack.latencies == [0.2, 0.0, 1.0, 0.0, 3.0, 0.0, 10.0, 0.0, 0.2, 0.0]


@pytest.mark.parametrize("infers", [0.5, 60.0])
def test_a_slow_loop_that_is_not_slow_or_sends_nothing_is_noticed(infers: float) -> None:
    (violation,) = long_inferences(FakeStack(infers=infers), 1).violations
    assert violation.startswith("1.0 s: the slow loop sent")


def test_the_figures_are_those_of_the_worst_run() -> None:
    case = LoadCase(25, "", "", goal_flood)
    figures = case.figures([Load((), 49.9, 0.3), Load((), 49.5, 1.2)])
    assert [(each.name, each.value) for each in figures] == [
        ("faults.case_25_rate_hz", 49.5),
        ("faults.case_25_growth_mb", 1.2),
    ]
    assert len(LoadCase(26, "", "", long_inferences).figures([Load((), 50.0)])) == 1


def test_no_stack_is_started_when_no_case_needs_one(monkeypatch) -> None:
    monkeypatch.setattr(load_cases, "live_stack", lambda *_: pytest.fail("started a stack"))
    assert list(run_load((1, 13), 20, "so101", lambda line: None)) == []
    assert list(run_load((25, 26), 0, "so101", lambda line: None)) == []


@pytest.mark.graph
@pytest.mark.slow
def test_the_running_stack_says_that_it_is_late_and_bears_a_flood_and_a_slow_loop() -> None:
    seen = list(run_load((16, 25, 26), 1, "so101", lambda line: None))
    assert [case for case, _ in seen] == list(CASES)
    for case, loads in seen:
        # A shared machine may take the loop's time away; everything else holds on any.
        assert [text for load in loads for text in load.violations if "cycles a second" not in text] == [], (
            case
        )
        assert all(load.rate > 25.0 for load in loads), case

"""Faults: the first at once, equal ones rarely, none lost."""

from __future__ import annotations

from wm_vla_ros.safety.faults import FaultCode, FaultReporter
from wm_vla_ros.types import Fault, Severity


def report(reporter: FaultReporter, now: float, code: FaultCode = FaultCode.STALE, source: str = "a") -> None:
    reporter.report(now, code, Severity.WARNING, source, f"at {now}")


def test_the_first_is_published_at_once() -> None:
    seen: list[Fault] = []
    report(FaultReporter(seen.append, 0.1), 5.0)
    assert seen == [Fault(5.0, "stale", Severity.WARNING, "a", "at 5.0")]


def test_another_cause_or_source_does_not_wait() -> None:
    seen: list[Fault] = []
    reporter = FaultReporter(seen.append, 0.1)
    report(reporter, 0.0)
    report(reporter, 0.0, FaultCode.FUTURE)
    report(reporter, 0.0, source="b")
    assert [(fault.code, fault.source) for fault in seen] == [("stale", "a"), ("future", "a"), ("stale", "b")]


def test_equal_ones_come_once_per_period_with_their_number() -> None:
    seen: list[Fault] = []
    reporter = FaultReporter(seen.append, 0.1)
    for k in range(100):
        report(reporter, k * 0.01)
    assert 9 <= len(seen) <= 11
    assert "and 9 more like it" in seen[1].text


def test_the_last_of_a_burst_is_published_by_a_flush() -> None:
    """Without it, an intervention 50 ms after an equal one would never be announced."""
    seen: list[Fault] = []
    reporter = FaultReporter(seen.append, 0.1)
    report(reporter, 0.0)
    report(reporter, 0.05)
    reporter.flush(0.06)
    assert len(seen) == 1
    reporter.flush(0.1)
    assert seen[1].text == "at 0.05"
    reporter.flush(0.3)
    assert len(seen) == 2


def test_sources_that_fell_silent_are_forgotten() -> None:
    """A hostile publisher that changes its name with every message must not fill the memory."""
    reporter = FaultReporter(lambda fault: None, 0.1)
    for k in range(1000):
        report(reporter, 0.0, source=str(k))
    reporter.flush(1.0)
    assert len(reporter._channels) == 0


def test_codes_are_words_that_stay() -> None:
    assert len({code.value for code in FaultCode}) == len(FaultCode)
    assert all(code.value.replace("_", "").isalpha() and code.value.islower() for code in FaultCode)

"""The judge itself: what it calls a violation, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.mock import MockBackend, MockSpec
from wm_vla_ros.faults.invariants import InvariantProbe, interventions, judge_record, unannounced
from wm_vla_ros.types import AppliedAction, Fault, Severity

SPEC = MockSpec()
DT = SPEC.dt


def judged(steps: list[tuple[float, np.ndarray]]) -> list[str]:
    """Violations of writing home + offset at each (gap, offset)."""
    clock = FakeClock(5.0)
    probe = InvariantProbe(MockBackend(SPEC, clock, SPEC.home), SPEC, clock)
    probe.read()
    for gap, offset in steps:
        clock.advance(gap)
        probe.write(SPEC.home + offset)
    return probe.violations


def ramp(*values: float, gap: float = DT) -> list[tuple[float, np.ndarray]]:
    return [(gap, np.full(6, value)) for value in values]


def test_rest_and_slow_motion_are_fine() -> None:
    assert judged(ramp(0, 0.01, 0.02, 0.03, 0.03)) == []


@pytest.mark.parametrize(
    ("steps", "broken"),
    [
        (ramp(np.nan), "I1"),
        (ramp(*np.arange(0, 1.6, 0.01)), "I2"),
        (ramp(0.1), "I3 velocity"),
        (ramp(0.02), "I3 acceleration"),
        (ramp(0.016, 0.032, 0.016), "I3 acceleration"),
        (ramp(0.01, 0.02) + ramp(0.03, gap=0.1 * DT), "I3 burst"),
    ],
)
def test_each_invariant_has_its_word(steps: list, broken: str) -> None:
    assert any(text.startswith(broken) for text in judged(steps))


def test_speed_is_lost_in_a_gap() -> None:
    fast = [0.016 * k for k in range(1, 2)] + [0.048, 0.08]
    assert judged([*ramp(*fast), (1.0, np.full(6, 0.08 + 0.03))]) != []
    assert judged([*ramp(*fast), (1.0, np.full(6, 0.08 + 0.016))]) == []


def test_motion_while_latched_is_a_violation_after_one_cycle() -> None:
    clock = FakeClock(5.0)
    probe = InvariantProbe(MockBackend(SPEC, clock, SPEC.home), SPEC, clock)
    probe.read()
    probe.latched()
    clock.advance(DT)
    probe.write(SPEC.home + 0.01)  # was under way
    assert probe.violations == []
    clock.advance(DT)
    probe.write(SPEC.home + 0.02)
    assert ["I5" in text for text in probe.violations] == [True]


def applied(stamp: float, offset: float, *changes: str) -> AppliedAction:
    return AppliedAction(
        stamp, 1, "mpc", np.zeros(7, np.float32), SPEC.joint_names, SPEC.home + offset, changes
    )


def test_a_record_is_judged_from_its_third_entry() -> None:
    smooth = [applied(k * DT, 0.01 * k) for k in range(10)]
    assert judge_record(smooth, SPEC) == []
    jump = [*smooth[:6], applied(6 * DT, 0.2)]
    assert len(judge_record(jump, SPEC)) == 2  # too fast, too suddenly
    assert judge_record([], SPEC) == []


def test_interventions_count_the_beginning_of_a_hold() -> None:
    record = [
        applied(1.0, 0),
        applied(1.1, 0, "rate_limited"),
        applied(1.2, 0, "hold"),
        applied(1.3, 0, "hold"),
        applied(1.4, 0),
    ]
    assert interventions(record) == [(1.1, "rate_limited"), (1.2, "hold")]


def test_an_intervention_needs_its_fault_in_time() -> None:
    starved = Fault(1.2, "starved", Severity.ERROR, "driver", "")
    limited = Fault(1.45, "rate_limited", Severity.WARNING, "driver", "")
    assert unannounced([(1.2, "hold"), (1.3, "rate_limited")], [starved, limited]) == []
    assert len(unannounced([(1.2, "hold")], [limited])) == 1  # a warning does not announce a hold
    assert len(unannounced([(1.2, "rate_limited")], [limited])) == 1  # 250 ms later
    assert len(unannounced([(1.5, "rate_limited")], [limited])) == 1  # before it

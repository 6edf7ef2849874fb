"""The gate keeps I1 to I3 whatever it is given, and leaves alone what obeys them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.clock import FakeClock
from wm_vla_ros.drivers.mock import MockBackend, MockSpec
from wm_vla_ros.faults.invariants import InvariantProbe
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Gate, Refused
from wm_vla_ros.safety.limits import JointLimits

SPEC = MockSpec()
LIMITS = JointLimits.of(SPEC)
DT = SPEC.dt


def synced(position: np.ndarray = SPEC.home) -> Gate:
    gate = Gate(LIMITS)
    gate.sync(position, 0.0)
    return gate


def codes(limited: list) -> list[FaultCode]:
    return [change.code for change in limited]


numbers = st.one_of(
    st.floats(-3, 3),
    st.sampled_from([0.0, 1.9, -1.9, 1e6, -1e6, 1e308, -1e308, np.inf, -np.inf, np.nan]),
)
commands = st.tuples(
    st.sampled_from(["follow", "approach", "relative", "brake"]),
    st.lists(numbers, min_size=6, max_size=6),
    st.sampled_from([DT, DT, DT, 0.3 * DT, 1.4 * DT, 2.5 * DT, 1.0]),
    st.integers(1, 40),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(commands, min_size=1, max_size=12))
def test_invariants_hold_for_any_stream_of_commands_at_any_times(stream: list) -> None:
    clock = FakeClock()
    # The pace of the writes is another part's to keep: here ticks may come as early as they like.
    probe = InvariantProbe(MockBackend(SPEC, clock, SPEC.home), SPEC, clock)
    probe.read()
    gate = synced()
    refusals = []
    for kind, values, gap, repeats in stream:
        target = np.array(values)
        for _ in range(repeats):
            clock.advance(gap)
            try:
                if kind == "brake":
                    position = gate.brake(clock.now())
                elif kind == "approach":
                    position, _ = gate.approach(target, clock.now())
                else:
                    wanted = gate.position + 0.05 * target if kind == "relative" else target
                    position, _ = gate.follow(wanted, clock.now())
            except Refused as refusal:
                refusals.append((refusal.code, bool(np.isfinite(target).all())))
                continue
            probe.write(position)
    assert set(refusals) <= {(FaultCode.NONFINITE, False)}
    assert [text for text in probe.violations if "burst" not in text] == []


@settings(deadline=None)
@given(
    st.lists(st.floats(0.2, 1.0), min_size=6, max_size=6),
    st.floats(0.05, 1.0),
    st.floats(0, 6.28),
)
def test_motion_within_the_limits_passes_unchanged(scale: list, frequency: float, phase: float) -> None:
    """A gate that smooths what is allowed would make every model of the arm wrong."""
    omega = 2 * np.pi * frequency
    allowed = np.minimum(SPEC.velocity_limit / omega, SPEC.acceleration_limit / omega**2)
    amplitude = np.array(scale) * np.minimum(0.95 * allowed, 0.2)
    centre = SPEC.home.copy()
    for mode in ("follow", "approach"):
        gate = synced(centre + amplitude * np.sin(phase))
        # Start from rest with the envelope rising over the first second.
        for k in range(1, 150):
            t = k * DT
            envelope = 0.5 - 0.5 * np.cos(np.pi * min(t, 1.0))
            target = centre + amplitude * (
                np.sin(phase) + 0.5 * envelope * (np.sin(omega * t + phase) - np.sin(phase))
            )
            position, limited = getattr(gate, mode)(target, t)
            assert codes(limited) == []
            assert position == pytest.approx(target, abs=1e-12)


def test_a_step_is_reached_without_overshoot_and_flagged_on_the_way() -> None:
    gate = synced(np.zeros(6))
    target = np.array([1.5, -1.0, 0.5, -0.5, 2.0, 1.0])
    seen = [gate.position]
    for k in range(1, 120):
        position, limited = gate.approach(target, k * DT)
        if not np.allclose(position, target, atol=1e-9):
            assert codes(limited) == [FaultCode.RATE_LIMITED]
        seen.append(position)
    beyond = np.max((np.array(seen) - target) * np.sign(target), axis=0)
    assert np.all(beyond <= 1e-9)
    assert seen[-1] == pytest.approx(target, abs=1e-9)
    assert codes(limited) == []


def test_full_speed_into_a_limit_stops_at_the_margin_exactly() -> None:
    gate = synced()
    for k in range(1, 200):
        position, limited = gate.follow(gate.position + 1.0, k * DT)
        assert np.all(position <= LIMITS.upper)
    assert position == pytest.approx(LIMITS.upper, abs=1e-12)
    assert codes(limited) == [FaultCode.POSITION_LIMITED]


def test_limited_joints_are_told_apart() -> None:
    gate = synced()
    target = SPEC.home.copy()
    target[2] += 1.0
    _, limited = gate.follow(target, DT)
    assert LIMITS.describe(limited[0].joints) == "elbow"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_no_number_is_refused_and_forgotten(bad: float) -> None:
    gate = synced()
    target = SPEC.home.copy()
    target[3] = bad
    for verb in (gate.follow, gate.approach):
        with pytest.raises(Refused, match="flex") as caught:
            verb(target, DT)
        assert caught.value.code == FaultCode.NONFINITE
    assert gate.position.tolist() == SPEC.home.tolist()


def test_a_target_of_another_length_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        synced().follow(np.zeros(5), DT)
    assert caught.value.code == FaultCode.SHAPE


def test_missed_ticks_count_as_slower_motion() -> None:
    """After a stall the arm stands at its last target: going on at the old speed would be a jump."""
    gate = synced()
    for k in range(1, 20):
        gate.follow(gate.position + 0.04, k * DT)
    before = gate.position
    position, _ = gate.follow(before + 0.04, 19 * DT + 1.0)
    step = position - before
    assert np.all(np.abs(step) <= LIMITS.step_change + LIMITS.step / 50 + 1e-12)


def test_a_step_that_was_not_carried_out_is_taken_back() -> None:
    gate, other = synced(), synced()
    for each in (gate, other):
        each.follow(SPEC.home + 0.01, DT)
    gate.follow(SPEC.home - 0.02, 2 * DT)
    gate.undo()
    assert gate.position.tolist() == other.position.tolist()
    target = SPEC.home + 0.1
    assert gate.follow(target, 3 * DT)[0].tolist() == other.follow(target, 3 * DT)[0].tolist()


def test_sync_refuses_what_cannot_be_a_start() -> None:
    gate = Gate(LIMITS)
    with pytest.raises(RuntimeError, match="sync"):
        _ = gate.position
    outside = SPEC.home.copy()
    outside[1] = SPEC.upper[1] + 0.1
    with pytest.raises(Refused, match="lift"):
        gate.sync(outside, 0.0)
    with pytest.raises(Refused, match="finite"):
        gate.sync(np.full(6, np.nan), 0.0)


def test_sync_inside_the_margin_starts_at_the_margin() -> None:
    resting = SPEC.home.copy()
    resting[1] = SPEC.lower[1]
    assert synced(resting).position[1] == pytest.approx(LIMITS.lower[1])


joint_steps = st.lists(st.floats(-0.2, 0.2), min_size=6, max_size=6)


@settings(deadline=None)
@given(st.lists(joint_steps, min_size=1, max_size=4))
def test_joints_are_held_back_alike(stream: list) -> None:
    """Between the velocity in force and the wanted one: else the tool goes where nobody has sent it."""
    gate = synced()
    velocity = np.zeros(6)
    for k, values in enumerate(stream, start=1):
        before, wanted = gate.position, np.array(values)
        inside = np.clip(before + wanted, LIMITS.lower, LIMITS.upper) - before
        slower = inside * min(1.0, float(np.min(LIMITS.step / np.maximum(np.abs(inside), 1e-12))))
        position, limited = gate.follow(before + wanted, k * DT)
        if FaultCode.POSITION_LIMITED in codes(limited):
            return
        made, asked = position - before - velocity, slower - velocity
        share = made @ asked / max(asked @ asked, 1e-18)
        assert made == pytest.approx(share * asked, abs=1e-9)
        assert -1e-9 <= share <= 1.0 + 1e-9
        # As much of it as the joints allow: the tightest is at its bound, or all is there.
        tightest = np.max(np.abs(made) / LIMITS.step_change)
        assert tightest == pytest.approx(1.0, abs=1e-6) or asked == pytest.approx(made, abs=1e-9)
        velocity = position - before

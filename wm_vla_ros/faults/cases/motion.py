"""Motions that the arm must not follow as they are, and planners that fall silent or late."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from wm_vla_ros.drivers.base import DriverState
from wm_vla_ros.faults.belief_rig import BeliefRig
from wm_vla_ros.faults.driver_rig import HORIZON, DriverRig
from wm_vla_ros.safety.faults import FaultCode


def outside_limits(rig: DriverRig) -> None:
    """6 | target outside limits | clamped or refused; overshoot 0 rad"""
    rig.warm_up()
    rig.tick(2 * HORIZON)  # stand still, so that the flags are this target's own
    joint = rig.rng.integers(len(rig.spec.joint_names))
    side, inwards = (rig.spec.upper, -1.0) if rig.rng.random() < 0.5 else (rig.spec.lower, 1.0)
    beyond = rig.world.home.copy()
    beyond[joint] = side[joint] - inwards * rig.rng.uniform(1e-3, 3.0)
    rig.send_bad(rig.joint_plan(beyond), FaultCode.RANGE)
    between = rig.world.home.copy()
    between[joint] = side[joint] + inwards * rig.rng.uniform(0.05, 0.95) * rig.spec.limit_margin
    sent = rig.now
    for _ in range(150):
        rig.send(rig.joint_plan(between))
        rig.tick()
    rig.expect(rig.flagged(FaultCode.POSITION_LIMITED, sent), "the clamp was not flagged")
    limit = side[joint] + inwards * rig.spec.limit_margin
    reached = rig.probe.log.targets[-1][joint]
    rig.expect(abs(reached - limit) < 1e-6, f"clamped at {reached:.6f} rad, the limit is {limit:.6f}")
    for _ in range(40):  # and by end-effector actions at full scale, into the limits
        rig.send(rig.plan(np.tile(rig.corner(), (HORIZON, 1))))
        rig.tick()
    rig.expect(rig.probe.overshoot <= 1e-9, f"overshoot {rig.probe.overshoot:.3g} rad")
    rig.starve()


def step_of_pi(rig: DriverRig) -> None:
    """7 | a step of pi | rate-limited; I3"""
    rig.warm_up()
    rig.tick(2 * HORIZON)  # stand still, so that the flags are the steps' own
    wide = int(np.argmax(rig.spec.upper - rig.spec.lower))
    middle = (rig.spec.upper[wide] + rig.spec.lower[wide]) / 2
    ends = [rig.world.home.copy(), rig.world.home.copy()]
    ends[0][wide], ends[1][wide] = middle - np.pi / 2, middle + np.pi / 2
    for target in ends:
        sent = rig.now
        rig.send(rig.joint_plan(target))
        rig.tick()
        rig.expect(rig.flagged(FaultCode.RATE_LIMITED, sent), "the step was not flagged")
        for _ in range(100):
            rig.send(rig.joint_plan(target))
            rig.tick()
        tail = rig.probe.log.array()[-30:, wide]
        rig.expect(bool(np.all(np.abs(tail - target[wide]) < 1e-6)), "the step was not reached and kept")
    for _ in range(25):
        rig.send(rig.plan(np.tile(rig.corner(), (HORIZON, 1))))
        rig.tick()
    rig.starve()


def bang_bang(rig: DriverRig) -> None:
    """8 | bang-bang at 25 Hz | acceleration bound; commanded rms <= limit"""
    rig.warm_up()
    corner = rig.corner()
    flipped = np.where(np.arange(7) < 6, -corner, 1.0 - corner)
    amount = rig.rng.uniform(0.02, 1.0, len(rig.spec.joint_names))
    low = rig.world.home + amount * (rig.spec.lower - rig.world.home)
    high = rig.world.home + amount * (rig.spec.upper - rig.world.home)
    begin = len(rig.probe.log.times)
    for k in range(100):
        if k < 50:
            rig.send(rig.plan(np.tile((corner, flipped)[k % 2], (HORIZON, 1))))
        else:
            rig.send(rig.joint_plan((low, high)[k % 2]))
        rig.tick()
    velocity = np.diff(rig.probe.log.array()[begin:], axis=0) / rig.spec.dt
    acceleration = np.diff(velocity, axis=0) / rig.spec.dt
    for what, values, limit in (
        ("velocity", velocity, rig.spec.velocity_limit),
        ("acceleration", acceleration, rig.spec.acceleration_limit),
    ):
        rms = np.sqrt(np.mean(values**2, axis=0))
        rig.expect(bool(np.all(rms <= limit * (1 + 1e-6))), f"rms {what} {rms} above {limit}")
    rig.starve()


def planner_killed(rig: DriverRig) -> None:
    """13 | planner killed (SIGKILL) | HOLD <= 100 ms after its last plan runs out"""
    rig.warm_up()
    rig.send(rig.plan(rig.smooth(int(rig.rng.integers(1, 50)))))
    rig.tick(70)
    rig.starve()
    rig.expect(len(rig.holds) >= 1, "no hold was seen")


def planner_stopped(rig: DriverRig) -> None:
    """14 | planner stopped 5 s (SIGSTOP), then continued | HOLD; no burst, 0 stale actions executed"""
    rig.warm_up()
    stuck = [rig.plan() for _ in range(int(rig.rng.integers(1, 6)))]  # computed, not yet delivered
    rig.tick(round(5.0 / rig.spec.dt))
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold while the planner stood still")
    for plan in stuck:
        rig.send(plan, refused=FaultCode.STALE)
    # The plan that it was computing: of an old observation, but stamped to start now.
    rig.send(rig.plan(stamp=rig.now - 5.0), refused=FaultCode.STALE)
    rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "a stale plan ended the hold")
    rig.stream(20)
    rig.expect(rig.core.state == DriverState.ACTIVE, "did not resume on fresh plans")
    rig.starve()


def slow_plan(rig: DriverRig) -> None:
    """15 | one plan takes 30 ms | next step of the plan before; no jump"""
    twin = rig.twin()
    for each in (rig, twin):
        each.warm_up()
        if each is twin:
            each.stream(20)
            continue
        for _ in range(5):
            late = each.plan()  # due now, delivered 30 ms later, when a tick has passed without it
            report = each.tick()
            went_on = report.applied is not None and report.applied.sequence == late.sequence - 1
            each.expect(went_on and report.row == 2, "did not take the next step of the plan before")
            each.clock.advance(0.01)
            each.send(late)
            each.tick()
            each.stream(2)
        each.expect(not each.holds, "held for a late plan")
    rig.expect(rig.farthest_from(twin) < 1e-3, f"the motion jumped by {rig.farthest_from(twin):.4f} rad")
    rig.starve()


def cycles_overrun(rig: BeliefRig) -> None:
    """16 | 10 % of cycles overrun | degraded fault <= 1 s; p99 reported; no HOLD"""
    cycles, slow = 0, 0

    def one_in(count: int) -> Callable[[], float]:
        """Seconds of a cycle; one in every `count`, at a place of its own, takes longer than its period."""

        def planning_time() -> float:
            nonlocal cycles, slow
            slow = int(rig.rng.integers(count)) if cycles % count == 0 else slow
            cycles += 1
            late = (cycles - 1) % count == slow
            return float(rig.rng.uniform(0.021, 0.027) if late else rig.rng.uniform(0.002, 0.008))

        return planning_time

    rig.aim(ticks=300)
    rig.planning_time = one_in(50)
    rig.tick(100)
    rig.expect(not rig.flagged(FaultCode.DEGRADED, 0.0), "degraded by two cycles in two seconds")
    cycles, rig.planning_time = 0, one_in(10)
    begun = rig.now
    rig.tick(50)
    words = [each.text for each in rig.faults if each.code == FaultCode.DEGRADED]
    rig.expect(bool(words), "no degraded fault within 1 s")
    p99 = [float(found) for text in words for found in re.findall(r"p99 ([0-9.]+) ms", text)]
    rig.expect(bool(p99) and all(21.0 <= each <= 35.0 for each in p99), f"p99 reported as {p99} ms")
    rig.planning_time = one_in(50)
    rig.tick(100)
    later = [each for each in rig.faults if each.code == FaultCode.DEGRADED and each.stamp > begun + 2.1]
    rig.expect(not later, "still degraded 1 s after it was over")
    rig.expect(not rig.judge.holds, "held for late plans")

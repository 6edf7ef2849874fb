"""The fault campaign's cases that need no process: each injects its fault into the real driver core.

A case's docstring is its row: number | inject | expected. It gets a rig that holds, moves it, does its worst
and says what it saw; the invariants and the deadlines are judged by the rig in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from wm_vla_ros.drivers.base import DriverState
from wm_vla_ros.evaluation.fault_rig import HORIZON, Rig
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.types import EE_ACTION_NAMES, Plan

Case = Callable[[Rig], None]


def _ends_either_way(rig: Rig) -> None:
    """After a refused plan the planner recovers in half of the runs and falls silent in the others."""
    if rig.rng.random() < 0.5:
        rig.stream(10)
        rig.expect(rig.core.state == DriverState.ACTIVE, "did not follow the valid plans afterwards")
    rig.starve()


def _refused(rig: Rig, plan: Plan, code: FaultCode) -> None:
    sent = rig.now
    rig.send(plan, refused=code)
    rig.tick()
    rig.expect(rig.flagged(code, sent), f"{code} was not flagged within one cycle")


def nan_in_action(rig: Rig) -> None:
    """1 | NaN in one element of an action | whole action refused; 0 reach the backend"""
    rig.warm_up()
    actions = rig.smooth()
    actions[rig.rng.integers(HORIZON), rig.rng.integers(7)] = np.nan
    _refused(rig, rig.plan(actions), FaultCode.NONFINITE)
    _ends_either_way(rig)


def infinite_action(rig: Rig) -> None:
    """2 | ±Inf, 1e308 | as 1"""
    rig.warm_up()
    actions = rig.smooth().astype(np.float64)
    actions[rig.rng.integers(HORIZON), rig.rng.integers(7)] = rig.rng.choice([np.inf, -np.inf, 1e308, -1e308])
    with np.errstate(over="ignore"):  # 1e308 is Inf in the message's float32
        plan = rig.plan(actions)
    _refused(rig, plan, FaultCode.NONFINITE)
    _ends_either_way(rig)


def wrong_length(rig: Rig) -> None:
    """3 | action of 6 or 8 numbers | refused, never truncated; HOLD <= 100 ms"""
    rig.warm_up()
    actions = rig.smooth()
    wrong = actions[:, :6] if rig.rng.random() < 0.5 else np.hstack([actions, actions[:, :1]])
    for _ in range(HORIZON + 5):  # the planner goes on sending nothing else
        rig.send(rig.plan(wrong), refused=FaultCode.SHAPE)
        rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold")
    rig.starve()


def unknown_joint(rig: Rig) -> None:
    """4 | unknown joint name | refused; the name is in the fault"""
    rig.warm_up()
    names = list(rig.spec.joint_names)
    names[rig.rng.integers(len(names))] = "third_elbow"
    _refused(rig, rig.joint_plan(rig.world.home, action_names=tuple(names)), FaultCode.UNKNOWN_NAME)
    rig.expect(any("third_elbow" in fault.text for fault in rig.faults), "the fault does not name the joint")
    _ends_either_way(rig)


def permuted_joints(rig: Rig) -> None:
    """5 | duplicate or permuted joint names | mapped by name or refused; 0 misrouted"""
    order = rig.rng.permutation(len(EE_ACTION_NAMES))
    shuffled = tuple(EE_ACTION_NAMES[i] for i in order)
    twin = rig.twin()
    for each in (rig, twin):
        each.warm_up()
        actions = each.smooth()
        each.send(each.plan(actions[:, order], action_names=shuffled) if each is rig else each.plan(actions))
        each.tick(HORIZON)
    rig.expect(rig.writes_equal(twin), "permuted columns moved the arm otherwise than columns in order")
    names = np.array(rig.spec.joint_names)
    first, second = rig.rng.choice(len(names), 2, replace=False)
    doubled = names.copy()
    doubled[first] = names[second]
    _refused(rig, rig.joint_plan(rig.world.home, action_names=tuple(doubled)), FaultCode.DUPLICATE_NAME)
    target = rig.world.home + rig.rng.uniform(-0.08, 0.08, len(names))
    order = rig.rng.permutation(len(names))
    for _ in range(60):
        rig.send(rig.joint_plan(target[order], action_names=tuple(names[order])))
        rig.tick()
    error = float(np.max(np.abs(rig.probe.log.targets[-1] - target)))
    rig.expect(error < 1e-6, f"permuted joints ended {error:.3g} rad from where their names say")
    rig.starve()


def outside_limits(rig: Rig) -> None:
    """6 | target outside limits | clamped or refused; overshoot 0 rad"""
    rig.warm_up()
    joint = rig.rng.integers(len(rig.spec.joint_names))
    side, inwards = (rig.spec.upper, -1.0) if rig.rng.random() < 0.5 else (rig.spec.lower, 1.0)
    beyond = rig.world.home.copy()
    beyond[joint] = side[joint] - inwards * rig.rng.uniform(1e-3, 3.0)
    _refused(rig, rig.joint_plan(beyond), FaultCode.RANGE)
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
        rig.send(rig.plan(np.tile(_corner(rig), (HORIZON, 1))))
        rig.tick()
    rig.expect(rig.probe.overshoot <= 1e-9, f"overshoot {rig.probe.overshoot:.3g} rad")
    rig.starve()


def step_of_pi(rig: Rig) -> None:
    """7 | a step of pi | rate-limited; I3"""
    rig.warm_up()
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
        rig.send(rig.plan(np.tile(_corner(rig), (HORIZON, 1))))
        rig.tick()
    rig.starve()


def bang_bang(rig: Rig) -> None:
    """8 | bang-bang at 25 Hz | acceleration bound; commanded rms <= limit"""
    rig.warm_up()
    corner = _corner(rig)
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


def degrees_as_radians(rig: Rig) -> None:
    """9 | degrees sent as radians | refused or rate-limited, flagged within 1 cycle"""
    rig.warm_up()
    sent = rig.now
    if rig.rng.random() < 0.5:
        nearby = rig.world.home + rig.rng.uniform(-0.1, 0.1, len(rig.spec.joint_names))
        rig.send(rig.joint_plan(np.rad2deg(nearby)), refused=FaultCode.RANGE)
    else:
        actions = rig.smooth()
        actions[:, 3:6] = np.rad2deg(np.maximum(np.abs(actions[:, 3:6]), 0.02))
        rig.send(rig.plan(actions), refused=FaultCode.RANGE)
    rig.tick()
    rig.expect(rig.flagged(FaultCode.RANGE, sent), "was not flagged within one cycle")
    # Degrees of a pose so near zero that they are joint angles too: nothing but the rate tells.
    small = np.clip(rig.world.home, rig.spec.lower + 0.1, rig.spec.upper - 0.1)
    small[0] = np.rad2deg(rig.rng.choice([-1, 1]) * rig.rng.uniform(0.012, 0.025))
    sent = rig.now
    rig.send(rig.joint_plan(small))
    rig.tick()
    rig.expect(rig.flagged(FaultCode.RATE_LIMITED, sent), "was not flagged within one cycle")
    _ends_either_way(rig)


def old_stamp(rig: Rig) -> None:
    """10 | stamp 1 s old | dropped, 100 %"""
    rig.warm_up()
    for _ in range(HORIZON + 5):
        rig.send(rig.plan(stamp=rig.now - 1.0), refused=FaultCode.STALE)
        rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold on stale plans alone")
    _ends_either_way(rig)


def future_stamp(rig: Rig) -> None:
    """11 | stamp 1 s ahead | dropped"""
    rig.warm_up()
    for _ in range(HORIZON + 5):
        rig.send(rig.plan(stamp=rig.now + 1.0), refused=FaultCode.FUTURE)
        rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold on plans from the future alone")
    _ends_either_way(rig)


def replayed_sequence(rig: Rig) -> None:
    """12 | replayed sequence number | dropped; 0 executed"""
    twin = rig.twin()
    for each in (rig, twin):
        each.warm_up()
        for _ in range(20):
            genuine = each.plan()
            each.send(genuine)
            if each is rig:
                back = int(rig.rng.integers(0, genuine.sequence))
                opposite = genuine.actions * np.array([-1, -1, -1, -1, -1, -1, 1])
                forged = replace(genuine, sequence=genuine.sequence - back, actions=opposite)
                rig.send(forged, refused=FaultCode.REPLAY)
            each.tick()
        recorded = each.plan(each.smooth(50))
        each.send(recorded)
        each.tick(15)
        if each is rig:  # after a silence, when a restarted planner would be let in
            rig.send(recorded, refused=FaultCode.REPLAY)
            rig.send(replace(recorded, start=rig.now), refused=FaultCode.REPLAY)
        each.tick(20)
    rig.expect(rig.writes_equal(twin), "a replayed sequence number changed the motion")
    rig.starve()


def planner_killed(rig: Rig) -> None:
    """13 | planner killed (SIGKILL) | HOLD <= 100 ms after its last plan runs out"""
    rig.warm_up()
    rig.send(rig.plan(rig.smooth(int(rig.rng.integers(1, 50)))))
    rig.tick(70)
    rig.starve()
    rig.expect(len(rig.holds) >= 1, "no hold was seen")


def planner_stopped(rig: Rig) -> None:
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


def slow_plan(rig: Rig) -> None:
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


def wall_clock_jump(rig: Rig) -> None:
    """36 | wall clock ±1 h | unaffected"""
    from wm_vla_ros.ros.time import NANO, TimeDoor

    wall = [0]  # the machine's wall clock minus its monotonic one, ns
    door = TimeDoor(lambda: wall[0])
    twin = rig.twin()
    for each in (rig, twin):
        each.warm_up()
        for k in range(60):
            plan = each.plan()
            stamp, start = door.to_stamp(plan.stamp), door.to_stamp(plan.start)
            jumps = each is rig and k % 20 == 10
            if jumps:  # with a message on its way: the one thing that a step of the clock can spoil
                wall[0] += int(rig.rng.choice([-1, 1])) * 3600 * NANO
            arrived = replace(plan, stamp=door.to_seconds(stamp), start=door.to_seconds(start))
            each.send(arrived, refused=None if not jumps else each.refusal_of(arrived))
            each.tick()
        each.expect(not each.holds, "held for a step of the wall clock")
    rig.expect(rig.farthest_from(twin) < 1e-3, "a step of the wall clock changed the motion")
    rig.starve()


def two_publishers(rig: Rig) -> None:
    """38 | two command publishers | the owner only; 0 foreign actions; alarm <= 350 ms"""
    twin = rig.twin()
    same_name = rig.rng.random() < 0.5
    for each in (rig, twin):
        each.warm_up()
        begun = each.now
        for k in range(40):
            genuine = each.plan()
            each.send(genuine)
            if each is rig:
                opposite = genuine.actions * np.array([-1, -1, -1, -1, -1, -1, 1])
                foreign = replace(genuine, sequence=genuine.sequence + 1000, actions=opposite)
                if not same_name:
                    foreign = replace(foreign, source="somebody")
                rig.send(foreign, refused=FaultCode.FOREIGN, writer="another process")
            each.tick()
            if each is rig and k == 0:
                rig.expect(rig.flagged(FaultCode.FOREIGN, begun), "no alarm within one cycle")
    rig.expect(rig.writes_equal(twin), "a foreign plan changed the motion")
    rig.starve()


def estop(rig: Rig) -> None:
    """41 | e-stop | 0 motion commands after 1 cycle (20 ms)"""
    rig.warm_up()
    rig.estop()
    written = len(rig.probe.log.times)
    pressed = rig.now
    for _ in range(50):
        rig.send(rig.plan(), refused=FaultCode.LATCHED)
        rig.tick()
    rig.expect(
        all(t <= pressed + rig.spec.dt for t in rig.probe.log.times[written:]), "commands after 1 cycle"
    )
    rig.expect(rig.core.state == DriverState.LATCHED, "is not latched")


def estop_released(rig: Rig) -> None:
    """42 | e-stop released, no reset | stays latched, 100 %"""
    rig.warm_up()
    rig.core.set_estop_input("button", True)
    rig.note_latched()
    for k in range(60):
        if k == 10:
            rig.expect(_raises(rig.core.reset), "was reset while the button is pressed")
            rig.core.set_estop_input("button", False)
        rig.expect(_raises(rig.core.enable), "was enabled without a reset")
        rig.send(rig.plan(), refused=FaultCode.LATCHED)
        rig.tick()
        rig.expect(rig.core.state == DriverState.LATCHED, f"is {rig.core.state} without a reset")


def reset_in_stream(rig: Rig) -> None:
    """43 | reset while actions stream in | needs a fresh enable and a pose sync; 0 jump"""
    rig.warm_up()
    rig.estop()
    for _ in range(20):
        rig.send(rig.plan(), refused=FaultCode.LATCHED)
        rig.tick()
    moved = rig.world.home + rig.rng.uniform(-0.2, 0.2, len(rig.spec.joint_names))
    rig.backend.push(moved)  # somebody moves the arm by hand
    written = len(rig.probe.log.times)
    rig.core.reset()
    for _ in range(20):
        rig.send(rig.plan(), refused=FaultCode.DISABLED)
        rig.tick()
    rig.expect(len(rig.probe.log.times) == written, "moved after the reset, before the enable")
    made_before = rig.plan()
    rig.tick()
    rig.enable()
    rig.send(made_before, refused=FaultCode.STALE)
    rig.tick()
    jump = float(np.max(np.abs(rig.probe.log.targets[-1] - moved)))
    rig.expect(jump < 1e-9, f"the first command is {jump:.4f} rad from the measured pose")
    rig.tick(3)
    rig.stream(20)
    rig.expect(rig.core.state == DriverState.ACTIVE, "did not follow plans after the enable")
    rig.starve()


def restart_while_stopped(rig: Rig) -> None:
    """44 | driver restarted while e-stopped | comes up latched"""
    rig.warm_up()
    rig.estop()
    rig.tick(3)
    written = len(rig.probe.log.times)
    rig.restart_driver()
    rig.expect(rig.core.state == DriverState.LATCHED, f"came up {rig.core.state}")
    rig.expect(_raises(rig.core.enable), "was enabled without a reset")
    for _ in range(20):
        rig.send(rig.plan(), refused=FaultCode.LATCHED)
        rig.tick()
    rig.expect(len(rig.probe.log.times) == written, "wrote while latched")
    rig.core.reset()
    rig.enable()
    rig.tick(3)
    rig.stream(10)
    rig.expect(rig.core.state == DriverState.ACTIVE, "did not follow plans after reset and enable")
    rig.core.disable()
    rig.restart_driver()
    rig.expect(rig.core.state == DriverState.DISABLED, f"came up {rig.core.state} after a reset")


CASES: dict[int, Case] = {
    int((case.__doc__ or "").split("|")[0]): case
    for case in (
        nan_in_action,
        infinite_action,
        wrong_length,
        unknown_joint,
        permuted_joints,
        outside_limits,
        step_of_pi,
        bang_bang,
        degrees_as_radians,
        old_stamp,
        future_stamp,
        replayed_sequence,
        planner_killed,
        planner_stopped,
        slow_plan,
        wall_clock_jump,
        two_publishers,
        estop,
        estop_released,
        reset_in_stream,
        restart_while_stopped,
    )
}
# Motion itself is what these are about: they run on a real robot's kinematics too.
MOTION_CASES = (6, 7, 8, 13, 14)


def row(case: Case) -> tuple[str, str]:
    """What the case injects, and what is expected."""
    _, inject, expected = (part.strip() for part in (case.__doc__ or "").split("|"))
    return inject, expected


def _raises(act: Callable[[], None]) -> bool:
    try:
        act()
    except ValueError:
        return True
    return False


def _corner(rig: Rig) -> np.ndarray:
    """(7,) a random corner of the action space."""
    corner = rig.rng.choice([-1.0, 1.0], 7)
    corner[6] = rig.rng.choice([0.0, 1.0])
    return corner

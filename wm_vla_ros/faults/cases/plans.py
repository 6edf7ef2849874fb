"""Plans that must not be executed, or not in the way they were sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wm_vla_ros.drivers.base import DriverState
from wm_vla_ros.faults.driver_rig import HORIZON, DriverRig
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.types import EE_ACTION_NAMES


def nan_in_action(rig: DriverRig) -> None:
    """1 | NaN in one element of an action | whole action refused; 0 reach the backend"""
    rig.warm_up()
    actions = rig.smooth()
    actions[rig.rng.integers(HORIZON), rig.rng.integers(7)] = np.nan
    rig.send_bad(rig.plan(actions), FaultCode.NONFINITE)
    rig.end_either_way()


def infinite_action(rig: DriverRig) -> None:
    """2 | ±Inf, 1e308 | as 1"""
    rig.warm_up()
    actions = rig.smooth().astype(np.float64)
    actions[rig.rng.integers(HORIZON), rig.rng.integers(7)] = rig.rng.choice([np.inf, -np.inf, 1e308, -1e308])
    with np.errstate(over="ignore"):  # 1e308 is Inf in the message's float32
        plan = rig.plan(actions)
    rig.send_bad(plan, FaultCode.NONFINITE)
    rig.end_either_way()


def wrong_length(rig: DriverRig) -> None:
    """3 | action of 6 or 8 numbers | refused, never truncated; HOLD <= 100 ms"""
    rig.warm_up()
    actions = rig.smooth()
    wrong = actions[:, :6] if rig.rng.random() < 0.5 else np.hstack([actions, actions[:, :1]])
    for _ in range(HORIZON + 5):  # the planner goes on sending nothing else
        rig.send(rig.plan(wrong), refused=FaultCode.SHAPE)
        rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold")
    rig.starve()


def unknown_joint(rig: DriverRig) -> None:
    """4 | unknown joint name | refused; the name is in the fault"""
    rig.warm_up()
    names = list(rig.spec.joint_names)
    names[rig.rng.integers(len(names))] = "third_elbow"
    rig.send_bad(rig.joint_plan(rig.world.home, action_names=tuple(names)), FaultCode.UNKNOWN_NAME)
    rig.expect(any("third_elbow" in fault.text for fault in rig.faults), "the fault does not name the joint")
    rig.end_either_way()


def permuted_joints(rig: DriverRig) -> None:
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
    rig.send_bad(rig.joint_plan(rig.world.home, action_names=tuple(doubled)), FaultCode.DUPLICATE_NAME)
    target = rig.world.home + rig.rng.uniform(-0.08, 0.08, len(names))
    order = rig.rng.permutation(len(names))
    for _ in range(60):
        rig.send(rig.joint_plan(target[order], action_names=tuple(names[order])))
        rig.tick()
    error = float(np.max(np.abs(rig.probe.log.targets[-1] - target)))
    rig.expect(error < 1e-6, f"permuted joints ended {error:.3g} rad from where their names say")
    rig.starve()


def degrees_as_radians(rig: DriverRig) -> None:
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
    rig.end_either_way()


def old_stamp(rig: DriverRig) -> None:
    """10 | stamp 1 s old | dropped, 100 %"""
    rig.warm_up()
    for _ in range(HORIZON + 5):
        rig.send(rig.plan(stamp=rig.now - 1.0), refused=FaultCode.STALE)
        rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold on stale plans alone")
    rig.end_either_way()


def future_stamp(rig: DriverRig) -> None:
    """11 | stamp 1 s ahead | dropped"""
    rig.warm_up()
    for _ in range(HORIZON + 5):
        rig.send(rig.plan(stamp=rig.now + 1.0), refused=FaultCode.FUTURE)
        rig.tick()
    rig.expect(rig.core.state == DriverState.HOLD, "did not hold on plans from the future alone")
    rig.end_either_way()


def replayed_sequence(rig: DriverRig) -> None:
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


def two_publishers(rig: DriverRig) -> None:
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

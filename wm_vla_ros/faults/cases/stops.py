"""The e-stop and its latch, and the clocks that must not stop anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from wm_vla_ros.drivers.base import DriverState
from wm_vla_ros.faults.driver_rig import DriverRig
from wm_vla_ros.safety.faults import FaultCode


def wall_clock_jump(rig: DriverRig) -> None:
    """36 | wall clock ±1 h | unaffected"""
    from wm_vla_ros.ros.time import NANO, StampConverter

    wall = [0]  # the machine's wall clock minus its monotonic one, ns
    stamps = StampConverter(lambda: wall[0])
    twin = rig.twin()
    for each in (rig, twin):
        each.warm_up()
        for k in range(60):
            plan = each.plan()
            stamp, start = stamps.to_stamp(plan.stamp), stamps.to_stamp(plan.start)
            jumps = each is rig and k % 20 == 10
            if jumps:  # with a message on its way: the one thing that a step of the clock can spoil
                wall[0] += int(rig.rng.choice([-1, 1])) * 3600 * NANO
            arrived = replace(plan, stamp=stamps.to_seconds(stamp), start=stamps.to_seconds(start))
            each.send(arrived, refused=None if not jumps else each.refusal_of(arrived))
            each.tick()
        each.expect(not each.holds, "held for a step of the wall clock")
    rig.expect(rig.farthest_from(twin) < 1e-3, "a step of the wall clock changed the motion")
    rig.starve()


def estop(rig: DriverRig) -> None:
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


def estop_released(rig: DriverRig) -> None:
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


def reset_in_stream(rig: DriverRig) -> None:
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


def restart_while_stopped(rig: DriverRig) -> None:
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


def _raises(act: Callable[[], None]) -> bool:
    try:
        act()
    except ValueError:
        return True
    return False

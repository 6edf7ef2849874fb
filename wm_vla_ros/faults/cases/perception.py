"""What the planner is told about the arm is late, broken, or wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_vla_ros.drivers.base import DriverState
from wm_vla_ros.faults.belief_rig import FRAME_TICKS, BeliefRig
from wm_vla_ros.faults.driver_judge import HOLD_WITHIN
from wm_vla_ros.faults.driver_rig import DriverRig
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.types import FloatArray, RobotState

LOST = 0.2  # s


def joints_out_of_order(rig: BeliefRig) -> None:
    """31 | joint_states out of order | older dropped; belief monotonic"""
    waiting: list[RobotState] = []

    def deliver(states: list[RobotState]) -> list[RobotState]:
        """Some wait for up to 100 ms, some come twice, and what comes together comes shuffled."""
        waiting.extend(states)
        now = states[-1].stamp
        due = [s for s in waiting if rig.rng.random() < 0.6 or now - s.stamp > 0.1]
        kept = [s for s in waiting if not any(s is other for other in due)]
        due += [s for s in due if rig.rng.random() < 0.2]
        waiting[:] = kept
        return [due[i] for i in rig.rng.permutation(len(due))]

    target = rig.aim().target
    rig.tick(int(rig.rng.integers(1, 8)))
    rig.deliver = deliver
    seen = rig.frames
    rig.tick(60)
    rig.expect(rig.frames > seen + 10, "observations stopped")
    worst = max(result.stats.prediction_error for result in rig.results)
    # The last known joints stand in for up to a tick, in which the arm makes 5 mm at most.
    rig.expect(worst < 0.008, f"the belief was {worst * 1e3:.1f} mm off the arm")
    missed = float(np.linalg.norm(rig.tip - target))
    rig.expect(missed < 0.004, f"the arm ends {missed * 1e3:.1f} mm from its goal")


def nothing_finite(rig: BeliefRig) -> None:
    """17 | all costs -inf or NaN | one retry, then HOLD; never nan_to_num"""
    rig.aim(ticks=150)
    rig.tick(int(rig.rng.integers(5, 15)))
    rig.expect(rig.planning, "no plan before the injection")
    verb = str(rig.rng.choice(["rollout", "predict"]))
    poison = float(rig.rng.choice([np.nan, -np.inf]))
    real, calls, begun = getattr(rig.model, verb), [0], rig.now

    def broken(latents: FloatArray, actions: FloatArray) -> FloatArray:
        calls[0] += 1
        return np.full_like(real(latents, actions), poison)

    setattr(rig.model, verb, broken)
    for _ in range(int(rig.rng.integers(1, 20))):
        calls[0] = 0
        with np.errstate(invalid="ignore"):  # what an infinity less itself warns of
            rig.tick()
        rig.expect(not rig.planning, "planned on what is not finite")
        rig.expect(verb != "rollout" or calls[0] == 2, f"{calls[0]} populations in place of one retry")
    rig.expect(rig.flagged(FaultCode.NO_FINITE_COST, begun), "no_finite_cost was not published")
    setattr(rig.model, verb, real)
    rig.tick(4 * FRAME_TICKS)
    rig.expect(rig.planning, "no plan afterwards")


def joint_broken(rig: DriverRig) -> None:
    """33 | a joint NaN, an encoder jump | HOLD; fault names the joint"""
    rig.warm_up()
    joint = int(rig.rng.integers(len(rig.spec.joint_names)))
    nan = rig.rng.random() < 0.5
    # Beyond three ticks at the velocity limit, which an arm may have made of two measurements.
    off = np.nan if nan else float(rig.rng.choice([-1, 1]) * rig.rng.uniform(0.4, 1.5))
    code = FaultCode.MEASUREMENT if nan else FaultCode.JOINT_JUMP
    real: Callable[[], RobotState] = rig.backend.read

    def read() -> RobotState:
        state = real()
        position = state.position.copy()
        position[joint] += off
        return RobotState(state.stamp, state.names, position, state.velocity)

    begun = rig.now
    made_before = rig.plan(start=begun)
    rig.backend.read = read  # type: ignore[method-assign]
    for _ in range(int(rig.rng.integers(1, 12))):
        rig.tick()
        rig.expect(rig.core.state == DriverState.HOLD, f"is {rig.core.state} on a broken measurement")
    name = rig.spec.joint_names[joint]
    named = any(fault.code == code and name in fault.text and fault.stamp >= begun for fault in rig.faults)
    rig.expect(named, f"{code} was not published with {name}")
    if not nan:
        rig.send_bad(made_before, FaultCode.STALE)
    rig.backend.read = real  # type: ignore[method-assign]
    rig.tick(4)
    if not nan:  # an arm that did not move may go on with its plan, as long as that is valid
        rig.expect(rig.core.state == DriverState.HOLD, "moves before a plan of the arm as it is now")
    rig.end_either_way()


def belief_diverges(rig: BeliefRig) -> None:
    """35 | belief diverges from measurement | bound exceeded for 3 cycles: replan from measurement or HOLD"""
    count = MpcConfig().divergence_count
    rig.aim(ticks=150)
    rig.tick(int(rig.rng.integers(10, 20)))
    rig.expect(rig.planning, "no plan before the injection")
    rig.expect(not rig.flagged(FaultCode.DIVERGENCE, 0.0), "diverged before the injection")
    begun, seen = rig.now, rig.frames
    while rig.frames < seen + 3 * count:
        # Far from the last one and from the truth, whichever the belief has come to trust.
        side = 1.0 if (rig.frames - seen) % 2 == 0 else -1.0
        rig.model.misread = side * rig.rng.uniform(0.1, 0.2) * np.array([0.6, 0.8, 0.0])
        rig.tick()
        wrong = rig.frames - seen
        if wrong < count:
            rig.expect(not rig.flagged(FaultCode.DIVERGENCE, begun), f"acted on {wrong} frames")
        elif wrong < 2 * count:
            rig.expect(rig.flagged(FaultCode.DIVERGENCE, begun), f"{wrong} frames off and no fault")
        else:
            rig.expect(not rig.planning, "still plans on a belief that starting anew did not mend")
    rig.model.misread = np.zeros(3)
    rig.tick((2 * count + 2) * FRAME_TICKS)
    rig.expect(rig.planning, "no plan after calm")
    error = rig.results[-1].stats.prediction_error
    rig.expect(error < 0.004, f"the belief is still {error * 1e3:.1f} mm off")


def joints_lost(rig: BeliefRig) -> None:
    """32 | joint_states lost for 200 ms | HOLD <= 100 ms from the loss; no plan on joints older than that"""
    rig.aim(ticks=150)
    rig.tick(int(rig.rng.integers(5, 15)))
    rig.expect(rig.driver.state == DriverState.ACTIVE, f"is {rig.driver.state} before the injection")
    where = str(rig.rng.choice(["on the way", "bus silent", "bus repeats itself"]))
    last, real = rig.backend.read(), rig.backend.read

    def read() -> RobotState:
        if where == "bus silent":
            raise OSError("the bus does not answer")
        return last

    rig.deliver = lambda states: []
    if where != "on the way":
        rig.backend.read = read  # type: ignore[method-assign]
    begun = rig.now
    for _ in range(round(LOST / rig.spec.dt)):
        rig.tick()
        _no_plan_on_old_joints(rig)
        in_time = rig.now <= last.stamp + HOLD_WITHIN
        if where != "on the way":
            rig.expect(in_time or rig.driver.state == DriverState.HOLD, f"is {rig.driver.state}, {where}")
    rig.expect(rig.flagged(FaultCode.JOINTS_OLD, begun), "joints_old was not published")
    if where == "on the way":  # the driver, which measures, ends its plan; without end, it holds
        rig.tick(round(LOST / rig.spec.dt) + 10)
        rig.expect(rig.driver.state == DriverState.HOLD, "moves without a plan")
    else:
        code = FaultCode.BACKEND if where == "bus silent" else FaultCode.MEASUREMENT
        rig.expect(rig.flagged(code, begun), f"{code} was not published")
    rig.backend.read = real  # type: ignore[method-assign]
    rig.deliver = lambda states: states
    rig.tick(4 * FRAME_TICKS)
    rig.expect(rig.planning and rig.driver.state == DriverState.ACTIVE, "does not go on afterwards")


def joint_missing(rig: BeliefRig) -> None:
    """34 | a joint missing in the message | refused; no zero-fill; the fault names the joint"""
    rig.aim(ticks=150)
    rig.tick(int(rig.rng.integers(5, 15)))
    rig.expect(rig.planning, "no plan before the injection")
    joint, real = int(rig.rng.integers(rig.spec.dof)), rig.backend.read

    def without(state: RobotState) -> RobotState:
        names = (*state.names[:joint], *state.names[joint + 1 :])
        return RobotState(
            state.stamp, names, np.delete(state.position, joint), np.delete(state.velocity, joint)
        )

    of_the_driver = rig.rng.random() < 0.5
    if of_the_driver:
        rig.backend.read = lambda: without(real())  # type: ignore[method-assign]
    rig.deliver = lambda states: [without(state) for state in states]
    begun, measured = rig.now, rig.measured_at
    for _ in range(int(rig.rng.integers(3, 20))):
        rig.tick()
        _no_plan_on_old_joints(rig)
        rig.expect(rig.measured_at == measured, "a message without a joint was used")
        if of_the_driver:
            rig.expect(rig.driver.state == DriverState.HOLD, f"is {rig.driver.state} without a joint")
    rig.backend.read = real  # type: ignore[method-assign]
    rig.deliver = lambda states: states
    rig.tick(6 * FRAME_TICKS)
    name = rig.spec.joint_names[joint]
    rig.expect(rig.flagged(FaultCode.REFUSED, begun, name), f"no refusal names {name}")
    named = not of_the_driver or rig.flagged(FaultCode.MEASUREMENT, begun, name)
    rig.expect(named, f"no fault of the driver names {name}")
    rig.expect(rig.planning and rig.driver.state == DriverState.ACTIVE, "does not go on afterwards")
    error = rig.results[-1].stats.prediction_error
    rig.expect(error < 0.004, f"the belief is {error * 1e3:.1f} mm off")


def _no_plan_on_old_joints(rig: BeliefRig) -> None:
    age = rig.results[-1].stats.stamp - rig.measured_at
    rig.expect(not rig.planning or age <= 0.1, f"planned on joints {age:.3f} s old")

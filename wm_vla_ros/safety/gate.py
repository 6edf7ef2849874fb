"""The last thing between a command and the arm: invariants I1 (finite), I2 (limits) and I3 (rates).

The gate owns the pose that was last written. A target comes in, the pose to write comes out; a target it
cannot judge is refused, one that goes too far or too fast is limited, and the caller is told which.
Because every step it lets through leaves room to brake in front of the joint limits, there is always a
next step that obeys every bound at once, and a limit is never overshot, whatever comes in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.limits import JointLimits, Joints, greatest_step

# Below this a difference is floating-point rounding, not an intervention; rad.
ROUNDING = 1e-9


class Refused(ValueError):
    """A command that must not be executed. code: why."""

    def __init__(self, code: FaultCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Limited:
    """A change that the gate made. joints: (n,) which ones."""

    code: FaultCode
    joints: NDArray[np.bool_]


class Gate:
    """Position commands of one arm under joint, velocity and acceleration limits.

    Used by the driver's tick only: one thread. Times are seconds on the driver's clock.
    """

    def __init__(self, limits: JointLimits) -> None:
        self.limits = limits
        self._position: Joints | None = None
        self._step: Joints = np.zeros(len(limits.names))
        self._written_at = -np.inf
        self._before: tuple[Joints | None, Joints, float] = (None, self._step, self._written_at)
        self._previous_target: Joints | None = None

    @property
    def position(self) -> Joints:
        """Last pose that was let through, (n,) rad. Raises RuntimeError before `sync`."""
        if self._position is None:
            raise RuntimeError("the gate knows no pose yet: call sync first")
        return self._position

    @property
    def moving(self) -> bool:
        """Whether the last step was one."""
        return bool(np.any(np.abs(self._step) > ROUNDING))

    def sync(self, measured: Joints, now: float) -> None:
        """Take the arm as standing at `measured` (n,) rad: whatever was commanded before is forgotten.

        Raises Refused when the pose is not finite, or outside the mechanical limits by more than the
        margin: a pose like that cannot be the start of a safe motion.
        """
        limits = self.limits
        if measured.shape != limits.lower.shape or not np.all(np.isfinite(measured)):
            raise Refused(FaultCode.MEASUREMENT, f"measured pose is not finite: {measured}")
        margin = limits.lower - limits.hard_lower
        outside = (measured < limits.hard_lower - margin) | (measured > limits.hard_upper + margin)
        if np.any(outside):
            raise Refused(FaultCode.MEASUREMENT, f"measured outside the limits: {limits.describe(outside)}")
        self._position = np.clip(measured, limits.lower, limits.upper)
        self._step = np.zeros_like(self._position)
        self._written_at = now
        self._previous_target = None

    def follow(self, target: Joints, now: float) -> tuple[Joints, list[Limited]]:
        """One step to `target` (n,) rad, which was derived from `position`: a velocity command.

        Nothing is added to smooth or to shape: a target within the limits comes out as it went in. Where a
        rate limits one joint, all are held back alike: what is written lies between the velocity in force and
        the wanted one, and so does the tool's motion. Held back joint by joint, the tool would go elsewhere.
        Raises Refused when the target is not n finite numbers.
        """
        inside = self._inside(target)
        self._previous_target = None
        return self._advance(inside - self.position, inside, now, inside != target, together=True)

    def approach(self, target: Joints, now: float) -> tuple[Joints, list[Limited]]:
        """One step on the way to the absolute pose `target` (n,) rad, without running past it.

        A target that moves is followed exactly while its motion obeys the limits: its own step is fed
        forward, and what is left of the distance is braked for. Raises Refused as `follow`.
        """
        inside = self._inside(target)
        before = self._previous_target if self._previous_target is not None else inside
        distance = before - self.position
        catch_up = np.sign(distance) * greatest_step(np.abs(distance), self.limits.step_change)
        self._previous_target = inside
        return self._advance(inside - before + catch_up, inside, now, inside != target)

    def brake(self, now: float) -> Joints:
        """One step of the quickest bounded stop."""
        self._previous_target = None
        still = np.zeros_like(self._step)
        position, _ = self._advance(still, self.position, now, still > 0)
        return position

    def undo(self) -> None:
        """The last step was never carried out: go on from the one before it, and from its time."""
        self._position, self._step, self._written_at = self._before

    def _inside(self, target: Joints) -> Joints:
        if target.shape != self.limits.lower.shape:
            raise Refused(FaultCode.SHAPE, f"{len(self.limits.names)} joints, target of shape {target.shape}")
        finite = np.isfinite(target)
        if not finite.all():
            raise Refused(FaultCode.NONFINITE, f"target of {self.limits.describe(~finite)} is not finite")
        return np.minimum(np.maximum(target, self.limits.lower), self.limits.upper)

    def _advance(
        self,
        wanted: Joints,
        target: Joints,
        now: float,
        clamped: NDArray[np.bool_],
        together: bool = False,
    ) -> tuple[Joints, list[Limited]]:
        limits, position = self.limits, self.position
        # A write moved the arm by `_step` in the ticks until now: when some were missed it has been slower.
        ticks = max(1.0, np.floor((now - self._written_at) / limits.dt + 1e-6))
        last = self._step / ticks
        change = limits.step_change
        if together:
            wanted = _shortened(wanted, limits.step)
            if np.any(np.abs(wanted - last) > change):
                wanted = last + _shortened(wanted - last, change)
        fastest = np.minimum(limits.step, last + change)
        slowest = np.maximum(-limits.step, last - change)
        up = greatest_step(np.maximum(limits.upper - position, 0.0), change)
        down = -greatest_step(np.maximum(position - limits.lower, 0.0), change)
        paced = np.minimum(np.maximum(wanted, slowest), fastest)
        step = np.minimum(np.maximum(paced, down), up)
        reached = np.minimum(np.maximum(position + step, limits.lower), limits.upper)
        self._before = position, self._step, self._written_at
        self._step = reached - position
        self._position = reached
        self._written_at = now
        changes = []
        bounded = clamped | (np.abs(step - paced) > ROUNDING)
        if bounded.any():
            changes.append(Limited(FaultCode.POSITION_LIMITED, bounded))
        short = (np.abs(reached - target) > ROUNDING) & ~bounded
        if short.any():
            changes.append(Limited(FaultCode.RATE_LIMITED, short))
        return reached.copy(), changes


def _shortened(step: Joints, bound: Joints) -> Joints:
    """`step` (n,) in its own direction, as long as `bound` (n,) allows in every joint."""
    return step * float(np.min(bound / np.maximum(np.abs(step), bound)))

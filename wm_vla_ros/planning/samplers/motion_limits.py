"""Bounds on speed, acceleration and jerk of the motions that a sampler may propose.

Held inside the sampler and not added to the cost, so that no weight can buy a motion that the arm could not
make or its gears should not have to, and the safety gate has nothing to cut in normal work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_vla_ros.types import FloatArray


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """Greatest length of an action's first three entries, of their change per tick, and of that one's change.

    In action units. The motions within are a convex set: a mean of motions within it is within it too.
    """

    speed: float
    change: float
    jerk: float

    def __post_init__(self) -> None:
        """Raises ValueError unless all three are above 0."""
        for name in ("speed", "change", "jerk"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"motion limit {name} must be above 0, got {getattr(self, name)}")

    @classmethod
    def per_tick(
        cls, speed: float, acceleration: float, jerk: float, *, dt: float, scale: float
    ) -> MotionLimits:
        """From m/s, m/s^2 and m/s^3. dt: seconds per tick. scale: metres per tick at an action of 1."""
        return cls(speed * dt / scale, acceleration * dt**2 / scale, jerk * dt**3 / scale)

    def apply(self, actions: FloatArray, last: FloatArray) -> FloatArray:
        """As near to `actions` (N, H, A) as the limits allow, tick by tick; changed in place.

        last: (2, A), the two actions before the first, oldest first; what was beyond a limit there is taken
        as at it. An arm at its greatest speed may stop to speed up at once: that jerk is allowed.
        """
        samples = len(actions)
        motion = np.ascontiguousarray(actions[:, :, :3].transpose(1, 2, 0))
        velocity = _within(np.repeat(last[1, :3, None], samples, axis=1), self.speed)
        change = _within(np.repeat((last[1] - last[0])[:3, None], samples, axis=1), self.change)
        for tick in motion:  # in place: it is the overhead of each call that counts
            tick -= velocity
            tick -= change
            change += _within(tick, self.jerk)
            velocity += _within(change, self.change)
            tick[:] = velocity
        every = _within(motion.transpose(1, 0, 2).reshape(3, -1), self.speed)
        actions[:, :, :3] = every.reshape(3, -1, samples).transpose(2, 1, 0)
        return actions


def _within(vectors: FloatArray, length: float) -> FloatArray:
    """`vectors` (3, n), each shortened in place to `length` where it is longer.

    Nearest points of a ball lie no farther apart than the points that they are nearest to: that is why one
    bound after another does not break the one before.
    """
    size = np.sqrt(np.einsum("an,an->n", vectors, vectors))
    vectors *= np.float32(length) / np.maximum(size, np.float32(length))
    return vectors

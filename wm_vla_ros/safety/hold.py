"""HOLD: brake as fast as the limits allow, then settle on the pose measured when the command stood still."""

from __future__ import annotations

import numpy as np

from wm_vla_ros.safety.gate import Gate
from wm_vla_ros.safety.limits import Joints


class Hold:
    """One hold, from its first tick to the resumption.

    The pose is taken once, when the commanded motion has come to rest: a target that kept following the
    measurement would sink with the arm's own sag.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._rest: Joints | None = None

    def step(self, measured: Joints, now: float) -> Joints:
        """Next pose to write, (n,) rad. measured: (n,) rad, the last finite measurement."""
        if self._rest is None:
            position = self._gate.brake(now)
            if not self._gate.moving:
                limits = self._gate.limits
                self._rest = np.clip(measured, limits.lower, limits.upper)
            return position
        position, _ = self._gate.approach(self._rest, now)
        return position

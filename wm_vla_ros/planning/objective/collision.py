"""Keep links off each other and off the table, before inverse kinematics has to stop them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts


@dataclass(frozen=True, slots=True)
class Collision:
    """Squared depth within `margin` metres of the nearest contact, in units of that margin.

    Touching costs 1. The nearest pair of each tick counts, so that a cost does not depend on how many
    capsules describe a link. Distances come from `LinearisedArm.clearance`, with its error.
    """

    weight: float
    margin: float
    name: str = "collision"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks."""
        assert rollouts.arm is not None
        assert rollouts.joints is not None
        clearance = rollouts.arm.clearance(rollouts.joints)
        depth = np.maximum(0.0, self.margin - clearance) / self.margin
        return self.weight * np.mean(np.square(depth, dtype=np.float64), axis=1)

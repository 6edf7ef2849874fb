"""The objective: every term whose weight is above zero, and what those need to see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.chunk_deviation import ChunkDeviation
from wm_vla_ros.planning.objective.collision import Collision
from wm_vla_ros.planning.objective.effort import Effort
from wm_vla_ros.planning.objective.joint_limits import JointLimits, arm_range
from wm_vla_ros.planning.objective.latent_point import LatentPoint
from wm_vla_ros.planning.objective.smoothness import Smoothness
from wm_vla_ros.planning.objective.term import Rollouts, Term
from wm_vla_ros.planning.objective.tracking import LatentTracking, TipTracking
from wm_vla_ros.planning.objective.weights import Weights
from wm_vla_ros.planning.objective.workspace import Workspace
from wm_vla_ros.robots.spec import RobotSpec


class Objective:
    """Sum of terms. needs_arm: whether `Rollouts.arm` is looked at; what nobody looks at need not be made."""

    def __init__(self, weights: Weights, grounding_names: tuple[str, ...], spec: RobotSpec) -> None:
        """Raises ValueError when every weight is zero."""
        tip = tuple(grounding_names.index(f"tip.{axis}") for axis in "xyz")
        objects = tuple(i for i, name in enumerate(grounding_names) if "cube" in name)
        every: list[Term] = [
            TipTracking("tip", tip, weights.weight_tip),
            TipTracking("objects", objects, weights.weight_objects),
            LatentTracking(weights.weight_latent),
            LatentPoint(weights.weight_latent_point),
            ChunkDeviation(weights.weight_chunk),
            Smoothness(weights.weight_smoothness),
            Effort(weights.weight_effort),
            Workspace(tip[2], weights.weight_workspace, weights.lowest_tip),
            JointLimits(weights.weight_joint_limits, *arm_range(spec), weights.joint_margin),
            Collision(weights.weight_collision, weights.collision_margin),
        ]
        self.terms = tuple(term for term in every if term.weight > 0.0)
        if not self.terms:
            raise ValueError("every weight of the objective is 0: no plan would be better than another")
        self.needs_arm = any(isinstance(term, JointLimits | Collision) for term in self.terms)

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) sum over the terms."""
        return np.sum([term.cost(rollouts) for term in self.terms], axis=0)

    def dominant(self, rollouts: Rollouts) -> str:
        """Name of the term that costs the one future in `rollouts` most."""
        costs = [float(term.cost(rollouts)[0]) for term in self.terms]
        return self.terms[int(np.argmax(costs))].name

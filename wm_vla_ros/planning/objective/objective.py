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
from wm_vla_ros.planning.objective.temporal_distance import TemporalDistance
from wm_vla_ros.planning.objective.term import Rollouts, Term
from wm_vla_ros.planning.objective.tracking import LatentTracking, TipTracking
from wm_vla_ros.planning.objective.uncertainty import ExpectedError, Spread, Uncertainty
from wm_vla_ros.planning.objective.value import Value
from wm_vla_ros.planning.objective.weights import Weights
from wm_vla_ros.planning.objective.workspace import Workspace
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.actor_critic import ActorCritic
from wm_vla_ros.world_models.heads import Heads
from wm_vla_ros.world_models.protocol import WorldModel


class Objective:
    """Sum of terms. needs_arm: whether `Rollouts.arm` is looked at; what nobody looks at need not be made."""

    def __init__(self, weights: Weights, model: WorldModel, horizon: int, spec: RobotSpec | None) -> None:
        """horizon: ticks of a rollout. spec: None for a robot of which nothing is known.

        Raises ValueError when every weight is zero, and for a term that needs heads or a critic where the
        model has none, or heads for rollouts of another length; a fingertip that the model does not ground;
        or a robot.
        """
        grounding_names = model.grounding_names
        axes = [f"tip.{axis}" for axis in "xyz"]
        if set(axes) <= set(grounding_names):
            tip = tuple(grounding_names.index(axis) for axis in axes)
        else:
            _without(weights, ("weight_tip", "weight_workspace"), model, "grounds no tip")
            tip = ()
        if spec is None:
            _without(weights, ("weight_joint_limits", "weight_collision"), model, "is of no robot known here")
        objects = tuple(i for i, name in enumerate(grounding_names) if "cube" in name)
        every: list[Term] = [
            *([TipTracking("tip", tip, weights.weight_tip)] if tip else []),
            TipTracking("objects", objects, weights.weight_objects),
            LatentTracking(weights.weight_latent),
            LatentPoint(weights.weight_latent_point),
            ChunkDeviation(weights.weight_chunk),
            Smoothness(weights.weight_smoothness),
            Effort(weights.weight_effort),
            *([Workspace(tip[2], weights.weight_workspace, weights.lowest_tip)] if tip else []),
            Collision(weights.weight_collision, weights.collision_margin),
        ]
        if spec is not None:
            every.insert(-1, JointLimits(weights.weight_joint_limits, *arm_range(spec), weights.joint_margin))
        if weights.weight_temporal_distance > 0.0:
            heads = _heads(model, "weight_temporal_distance")
            every.append(TemporalDistance(weights.weight_temporal_distance, heads))
        if weights.weight_uncertainty > 0.0:
            every.append(Uncertainty(weights.weight_uncertainty, _expected_error(model, horizon)))
        if weights.weight_value > 0.0:
            every.append(Value(weights.weight_value, actor_critic_of(model, "weight_value")))
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


def _without(weights: Weights, names: tuple[str, ...], model: WorldModel, why: str) -> None:
    for name in names:
        if getattr(weights, name) > 0.0:
            raise ValueError(f"{name}: the world model {model.manifest.name} {why}; give it the weight 0")


def _expected_error(model: WorldModel, horizon: int) -> ExpectedError:
    """The trained heads' where there are any, or else what the model says of itself."""
    if model.heads is None and model.spread(np.zeros((1, model.latent_dim), np.float32)) is not None:
        return Spread(model)
    heads = _heads(model, "weight_uncertainty")
    if heads.horizon != horizon:
        trained = f"the heads of {model.manifest.name} know rollouts of {heads.horizon} ticks"
        raise ValueError(f"weight_uncertainty: {trained}, the planner's have {horizon}")
    return heads


def _heads(model: WorldModel, wanted_by: str) -> Heads:
    if model.heads is None:
        name = model.manifest.name
        raise ValueError(f"{wanted_by}: the world model {name} has no heads; `wm-vla train heads` makes them")
    return model.heads


def actor_critic_of(model: WorldModel, wanted_by: str) -> ActorCritic:
    """The model's. Raises ValueError, naming the setting `wanted_by`, where it has none."""
    if model.actor_critic is None:
        name = model.manifest.name
        made_by = "`wm-vla train actor-critic` makes them"
        raise ValueError(f"{wanted_by}: the world model {name} has no actor and critic; {made_by}")
    return model.actor_critic

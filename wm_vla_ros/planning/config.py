"""Settings of the fast loop, apart from what uses them: whoever only chooses them loads no planner."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from wm_vla_ros.planning.objective.weights import Weights
from wm_vla_ros.planning.samplers import SamplerConfig
from wm_vla_ros.settings import setting


@dataclass(frozen=True, slots=True)
class Tuning(Weights):
    """What the planner node offers as parameters, too. The speed is what play has shown the world model."""

    pace: float = setting(2.0, "path ticks per control tick", low=0.5, high=4.0)
    contact_pace: float = setting(1.5, "the same where something is touched", low=0.5, high=4.0)
    max_speed: float = setting(0.45, "of the tip, m/s", low=0.01, high=2.0)
    max_acceleration: float = setting(2.5, "of the tip, m/s^2", low=0.1, high=50.0)
    max_jerk: float = setting(75.0, "of the tip, m/s^3", low=1.0, high=5000.0)
    belief_gain: float = setting(0.0, "share of an image's news believed, 0: estimated", low=0.0, high=1.0)
    bias: bool = setting(True, "estimate and cancel an unmodelled drift of the tool")
    actor_candidate: bool = setting(
        False, "let the sampler start from what the world model's actor would do as well"
    )
    deadline: float = setting(
        0.012, "no iteration starts later in a tick, s; at most 0.6 of the period", low=0.001, high=0.02
    )
    max_observation_age: float = setting(0.4, "older than this, s, no plan is made", low=0.05, high=2.0)

    def tuning(self) -> dict[str, Any]:
        """Name to value, of what this class and `Weights` declare and none of what derives from it."""
        return {entry.name: getattr(self, entry.name) for entry in fields(Tuning)}


@dataclass(frozen=True, slots=True)
class MpcConfig(Tuning):
    """Settings of the fast loop; metres, seconds, action units. What plans are judged by: `Weights`.

    method: of SAMPLERS. lead: least time between the start of planning and the plan's first action.
    divergence_bound, divergence_count: how far, and how many times in a row, prior and observation
    may part before the belief starts anew from the measurement, and then before the arm holds.
    divergence_doubt: so many of the world model's own standard deviations of the tip count as if the two had
    parted; 0, or a model without a spread: what it doubts stops nothing.
    max_joint_age: no plan is made on older joint measurements.
    predict: False plans from the newest image as if it were now. chunk_candidate: False keeps the slow
    policy's chunk from the sampler. follow_objects: False leaves the path where the policy saw its object.
    The last three are parts that `wm-vla bench delay` takes away to show their worth.
    """

    method: str = "mppi_spline"
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(sigma=(0.06, 0.06, 0.06, 0.0, 0.0, 0.0, 0.0))
    )
    lead: float = 0.006
    divergence_bound: float = 0.03
    divergence_count: int = 3
    divergence_doubt: float = 0.0
    max_joint_age: float = 0.1
    predict: bool = True
    chunk_candidate: bool = True
    follow_objects: bool = True

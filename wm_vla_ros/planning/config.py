"""Settings of the fast loop, apart from what uses them: whoever only chooses them loads no planner."""

from __future__ import annotations

from dataclasses import dataclass, field

from wm_vla_ros.planning.objective.weights import Weights
from wm_vla_ros.planning.samplers import SamplerConfig


@dataclass(frozen=True, slots=True)
class MpcConfig(Weights):
    """Settings of the fast loop; metres, seconds, action units. What plans are judged by: `Weights`.

    method: of SAMPLERS. pace, contact_pace: path ticks per control tick, in free space and where something is
    touched. max_speed, max_acceleration, max_jerk: of the tip, m/s, m/s^2, m/s^3; the speed is what play has
    shown the world model. lead: least time between the start of
    planning and the plan's first action. belief_gain: share of an image's news that is believed, 0 to have it
    estimated. divergence_bound, divergence_count: how far, and how many times in a row, prior and observation
    may part before the belief starts anew from the measurement, and then before the arm holds.
    divergence_doubt: so many of the world model's own standard deviations of the tip count as if the two had
    parted; 0, or a model without a spread: what it doubts stops nothing.
    max_observation_age, max_joint_age: no plan is made on older images, or on older joint measurements.
    deadline: from when a tick was due; no iteration starts later. bias: False estimates no drift.
    predict: False plans from the newest image as if it were now. chunk_candidate: False keeps the slow
    policy's chunk from the sampler. follow_objects: False leaves the path where the policy saw its object.
    The last three are parts that `wm-vla bench delay` takes away to show their worth. actor_candidate: True
    adds what the world model's actor would do on the way to the goal.
    """

    method: str = "mppi_spline"
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(sigma=(0.06, 0.06, 0.06, 0.0, 0.0, 0.0, 0.0))
    )
    pace: float = 2.0
    contact_pace: float = 1.5
    max_speed: float = 0.45
    max_acceleration: float = 2.5
    max_jerk: float = 75.0
    lead: float = 0.006
    belief_gain: float = 0.0
    divergence_bound: float = 0.03
    divergence_count: int = 3
    divergence_doubt: float = 0.0
    max_observation_age: float = 0.4
    max_joint_age: float = 0.1
    deadline: float = 0.012
    bias: bool = True
    predict: bool = True
    chunk_candidate: bool = True
    follow_objects: bool = True
    actor_candidate: bool = False

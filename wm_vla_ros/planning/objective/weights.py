"""Weights and scales of the objective, declared once: the core's configuration and the planner node's
parameters both derive from `Weights`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from wm_vla_ros.settings import setting

_MOST = 100.0


def _weight(default: float, of: str) -> Any:
    return setting(default, f"weight of {of}; 0: not in the objective", low=0.0, high=_MOST)


@dataclass(frozen=True, slots=True)
class Weights:
    """What a plan is judged by. A term of weight 0 is not built and costs no time.

    Each term is in units of its own scale, so that 1 is about what a plan should not cost.
    """

    weight_tip: float = _weight(1.0, "the tip's distance from the goal's path")
    weight_objects: float = _weight(0.02, "the objects' distance from the goal's path")
    weight_latent: float = _weight(0.05, "the latent's distance from the goal's path")
    weight_latent_point: float = _weight(0.0, "the latent's distance from the goal's last point")
    weight_chunk: float = _weight(0.0, "the deviation from the slow policy's own motion")
    weight_smoothness: float = _weight(0.02, "changes of action")
    weight_effort: float = _weight(0.0, "squared speed and turn of the tool")
    weight_workspace: float = _weight(1.0, "the tip's depth below lowest_tip")
    weight_joint_limits: float = _weight(0.0, "nearness to the ends of the joints' ranges")
    weight_collision: float = _weight(0.0, "nearness of links to each other and to the table")
    weight_temporal_distance: float = _weight(0.0, "learned time from the rollout's end to the goal's")
    weight_uncertainty: float = _weight(0.0, "the world model's expected error over the rollout")
    weight_value: float = _weight(0.0, "what is left to do after the rollout's end, as the critic learned it")

    lowest_tip: float = setting(
        0.009, "tip height over the base frame that costs nothing, m", low=0.0, high=0.2
    )
    chunk_half_life: float = setting(
        0.5, "age at which a chunk's deviation counts half, s", low=0.01, high=10.0
    )
    chunk_half_divergence: float = setting(
        0.01, "divergence of the belief at which a chunk's deviation counts half, m", low=0.001, high=1.0
    )
    joint_margin: float = setting(
        0.1, "distance from the end of a joint's range that costs nothing, rad", low=0.001, high=1.0
    )
    collision_margin: float = setting(
        0.006, "distance of links from each other and the table that costs nothing, m", low=0.001, high=0.2
    )

    def __post_init__(self) -> None:
        """Raises ValueError on a value that is not finite or out of its bounds, naming it and them."""
        for entry in fields(Weights):
            value, low, high = getattr(self, entry.name), entry.metadata["low"], entry.metadata["high"]
            if not low <= value <= high:  # NaN is never within
                raise ValueError(f"{entry.name} must be within {low} and {high}, got {value}")

    def weights(self) -> dict[str, float]:
        """Name to value, of what this class declares and none of what derives from it."""
        return {entry.name: getattr(self, entry.name) for entry in fields(Weights)}

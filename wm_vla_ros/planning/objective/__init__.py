"""What a plan costs: one term per file, each a small dataclass that maps rollouts to costs."""

from wm_vla_ros.planning.objective.chunk_deviation import ChunkDeviation, chunk_motion, chunk_trust
from wm_vla_ros.planning.objective.collision import Collision
from wm_vla_ros.planning.objective.effort import Effort
from wm_vla_ros.planning.objective.joint_limits import JointLimits
from wm_vla_ros.planning.objective.latent_point import LatentPoint
from wm_vla_ros.planning.objective.objective import Objective, actor_critic_of
from wm_vla_ros.planning.objective.smoothness import Smoothness
from wm_vla_ros.planning.objective.temporal_distance import TemporalDistance
from wm_vla_ros.planning.objective.term import Rollouts, Term
from wm_vla_ros.planning.objective.tracking import LatentTracking, TipTracking
from wm_vla_ros.planning.objective.uncertainty import Uncertainty
from wm_vla_ros.planning.objective.value import Value
from wm_vla_ros.planning.objective.weights import Weights
from wm_vla_ros.planning.objective.workspace import Workspace

__all__ = [
    "ChunkDeviation",
    "Collision",
    "Effort",
    "JointLimits",
    "LatentPoint",
    "LatentTracking",
    "Objective",
    "Rollouts",
    "Smoothness",
    "TemporalDistance",
    "Term",
    "TipTracking",
    "Uncertainty",
    "Value",
    "Weights",
    "Workspace",
    "actor_critic_of",
    "chunk_motion",
    "chunk_trust",
]

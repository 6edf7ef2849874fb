"""What a plan costs: one term per file, each a small dataclass that maps rollouts to costs."""

from wm_vla_ros.planning.objective.smoothness import Smoothness
from wm_vla_ros.planning.objective.term import Rollouts, Term
from wm_vla_ros.planning.objective.tracking import LatentTracking, TipTracking
from wm_vla_ros.planning.objective.workspace import Workspace

__all__ = ["LatentTracking", "Rollouts", "Smoothness", "Term", "TipTracking", "Workspace"]

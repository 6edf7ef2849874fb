"""What a plan costs: one term per file, each a small dataclass that maps rollouts to costs."""

from wm_vla_ros.planning.objective.smoothness import CHANGE_SCALE, Smoothness
from wm_vla_ros.planning.objective.term import Rollouts, Term
from wm_vla_ros.planning.objective.tracking import TERMINAL, TIP_SCALE, LatentTracking, TipTracking
from wm_vla_ros.planning.objective.workspace import Workspace

__all__ = [
    "CHANGE_SCALE",
    "TERMINAL",
    "TIP_SCALE",
    "LatentTracking",
    "Rollouts",
    "Smoothness",
    "Term",
    "TipTracking",
    "Workspace",
]

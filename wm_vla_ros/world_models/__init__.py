"""World models: one contract (`WorldModel`), families by name, files that are checked before they are used.

Nothing here imports torch: a shipped model runs on ONNX Runtime and numpy. The families'
modules need torch, to train and to export; `families.family_class` imports them.
"""

from __future__ import annotations

from wm_vla_ros.world_models.families import FAMILIES
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.registry import available, load

__all__ = ["FAMILIES", "Manifest", "ModelRefused", "WorldModel", "available", "load"]

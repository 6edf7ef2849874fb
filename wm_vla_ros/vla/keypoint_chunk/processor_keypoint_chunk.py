"""Processors of the keypoint chunk policy: LeRobot's own, in their default order.

The instruction stays text: the policy reads it with the vocabulary in its configuration.
"""

from __future__ import annotations

from typing import Any

import torch
from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors

from wm_vla_ros.vla.keypoint_chunk.configuration_keypoint_chunk import KeypointChunkConfig

Pipelines = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]


def make_keypoint_chunk_pre_post_processors(
    config: KeypointChunkConfig, dataset_stats: dict[str, dict[str, torch.Tensor]] | None = None
) -> Pipelines:
    """Batch dimension, device, normalisation; and back."""
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)

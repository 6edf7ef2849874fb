"""ONNX Runtime on two cores: half of the rollouts in a second thread, each half on one thread of its own.

Two threads inside one session would share every small matrix product, and wait for each other at its end; any
competitor on the machine then makes them a hundred times slower. Two halves meet once per rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import Manifest
from wm_vla_ros.world_models.onnx_runtime import OnnxWorldModel


class ShardedWorldModel(OnnxWorldModel):
    """An `OnnxWorldModel` whose rollouts of at least two rows are computed as two halves at once.

    Both run in one session, which takes calls from several threads: the weights are in memory once.
    """

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
        super().__init__(manifest, contents)
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="shard")

    def _unrolled(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        if len(latents) < 2:
            return super()._unrolled(latents, actions)
        half = len(latents) // 2
        other = self._helper.submit(super()._unrolled, latents[half:], actions[half:])
        first = super()._unrolled(latents[:half], actions[:half])
        return np.concatenate([first, other.result()])

"""Goal source `chunk_rollout`: what the policy's own chunk would lead to, imagined by the world model.

It works with any policy, untrained: the chunk is rolled out from the latent of the very observation that
the policy looked at, and the imagined latents are the path to track. A path is absolute: it stays right
when the arm has meanwhile moved on, which the chunk's displacements do not.
"""

from __future__ import annotations

import numpy as np

from wm_vla_ros.types import ActionChunk, FloatArray, LatentGoal
from wm_vla_ros.world_models.protocol import WorldModel

# A goal outlives its chunk, so that a slow or lost policy is bridged by holding at the chunk's end.
_OUTLIVES = 1.0


def chunk_rollout(model: WorldModel, chunk: ActionChunk, latent: FloatArray, instruction: str) -> LatentGoal:
    """The imagined path of `chunk` (H, 7) from `latent` (D,), the encoding of the observation at chunk.stamp.

    Returns a LatentGoal of H + 1 steps; step i is meant for chunk.stamp + i * dt. Raises ValueError when
    the chunk's period is not the model's.
    """
    if abs(chunk.dt - model.dt) > 1e-6:
        raise ValueError(f"chunk period {chunk.dt} s is not the world model's {model.dt} s")
    path = model.rollout(latent[None], chunk.actions[None])[0]
    return LatentGoal(
        stamp=chunk.stamp,
        sequence=chunk.sequence,
        instruction=instruction,
        encoder_id=model.encoder_id,
        embeddings=np.concatenate([latent[None], path]),
        dt=model.dt,
        valid_for=len(chunk.actions) * chunk.dt + _OUTLIVES,
    )

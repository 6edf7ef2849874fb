"""One inference of the slow loop: from an observation and an instruction to a chunk and a latent goal."""

from __future__ import annotations

import numpy as np

from wm_vla_ros.goals.chunk_rollout import chunk_rollout
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import EE_DELTA, ActionChunk, LatentGoal, Observation
from wm_vla_ros.vla.open_policy import Policy
from wm_vla_ros.world_models.protocol import WorldModel


class SlowLoop:
    """Policy and world model together; numbers its inferences. Not thread-safe."""

    def __init__(self, policy: Policy, model: WorldModel, spec: RobotSpec) -> None:
        self._policy = policy
        self._model = model
        self._spec = spec
        self._sequence = 0

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that an observation has to hold."""
        return tuple(sorted({*self._policy.cameras, *self._model.manifest.cameras}))

    def infer(self, observation: Observation, instruction: str) -> tuple[ActionChunk, LatentGoal]:
        """The chunk for `observation`, and where the world model imagines that it leads.

        Both carry the observation's stamp and the same sequence number. Raises what `SlowPolicy.infer`
        and `chunk_rollout` raise.
        """
        actions = self._policy.infer(observation.images, observation.proprio, instruction)
        self._sequence += 1
        chunk = ActionChunk(observation.stamp, self._sequence, EE_DELTA, self._policy.dt, actions)
        latent = self._model.encode(observation.images, observation.proprio)
        return chunk, chunk_rollout(self._model, chunk, np.asarray(latent, np.float32), instruction)

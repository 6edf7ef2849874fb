"""A `video` world model as the slow policy: what it sees coming under an instruction is what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros import world_models
from wm_vla_ros.types import FloatArray
from wm_vla_ros.vla.policy_manifest import PolicyRefused
from wm_vla_ros.world_models.manifest import ModelRefused, read_files
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.video_files import MODES, VideoModel

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec


class VideoPolicy:
    """The same interface as `SlowPolicy`, for a world model's own videos. Not thread-safe.

    chunk_size: the ticks that a video covers; half of them are meant to be executed when it runs alone.
    """

    def __init__(
        self,
        mode: str,
        world_model: str,
        robot: RobotSpec | None = None,
        cameras: Sequence[str] | None = None,
    ) -> None:
        """mode: of `video_files.MODES`. world_model: name in models/, or folder.

        Raises PolicyRefused for another mode, a model that makes no videos, or cameras that are not there.
        """
        if mode not in MODES:
            raise PolicyRefused(f"mode of video: expected one of {', '.join(MODES)}, found {mode!r}")
        try:
            self._model = world_models.load(world_model, robot=robot)
            self._video = VideoModel(
                self._model.manifest, read_files(find(world_model), self._model.manifest)
            )
        except ModelRefused as error:
            raise PolicyRefused(str(error)) from error
        self.cameras = tuple(self._model.manifest.cameras)
        if cameras is not None and (missing := sorted(set(self.cameras) - set(cameras))):
            raise PolicyRefused(f"{world_model} looks through {missing}: cameras are {sorted(cameras)}")
        self.policy_type = f"video {mode}"
        self.dt = self._model.dt
        self.instructions = self._video.tasks
        self.chunk_size = self._video.ticks
        self.n_action_steps = self.chunk_size // 2
        self._mode = mode

    def infer(
        self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float32], instruction: str
    ) -> FloatArray:
        """The chunk (chunk_size, A) for one observation; as `SlowPolicy.infer`.

        Raises ValueError for an observation that does not fit or an instruction that the model never saw.
        """
        latent = self._model.encode(images, state)
        return self._video.imagine(latent, instruction, self._mode).actions

"""Videos to come, of a model of the `video` family, on ONNX Runtime: numpy in, numpy out, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.frame_decoder import DECODER_FILE, FrameDecoder
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.onnx_runtime import ANY, CPU, WEIGHTS_FILE, open_session
from wm_vla_ros.world_models.tensors import read_metadata

SEQUENCE_FILE = "sequence.onnx"
SUBGOAL_FILE = "subgoal.onnx"
INVERSE_FILE = "inverse.onnx"
GOAL_ACTIONS_FILE = "goal_actions.onnx"
MODES = ("sequence", "subgoal")


@dataclass(frozen=True, slots=True)
class Video:
    """What is to be seen, and done. latents: (K, D), the last of them at the end of actions (H, A)."""

    latents: FloatArray
    actions: FloatArray


class VideoModel:
    """The parts of one `video` model that the shared protocol does not have.

    tasks: the instructions that it knows. frames: K of a sequence. every: ticks between them. ticks: how far
    both modes look ahead. decoder: makes images of latents.
    """

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
        """contents: verified bytes by file name. Raises ModelRefused for a model that makes no videos."""
        name, dim, actions = manifest.name, manifest.latent_dim, manifest.action_dim
        needed = (DECODER_FILE, SEQUENCE_FILE, SUBGOAL_FILE, INVERSE_FILE, GOAL_ACTIONS_FILE, WEIGHTS_FILE)
        if missing := [file for file in needed if file not in contents]:
            raise ModelRefused(f"{name}: expected a model of family video, found one without {missing}")
        about = read_metadata(contents[WEIGHTS_FILE], f"{name}: {WEIGHTS_FILE}")
        try:
            self.tasks = tuple(str(task) for task in json.loads(about["tasks"]))
        except (KeyError, ValueError, TypeError) as error:
            raise ModelRefused(f"{name}: {WEIGHTS_FILE}: expected its tasks, found {error!r}") from error
        self._tasks = {_plain(task): number for number, task in enumerate(self.tasks)}
        self.decoder = FrameDecoder(manifest, contents)
        self._sequence = open_session(contents, SEQUENCE_FILE, CPU, [[1, dim], [1]], [1, ANY, dim])
        self._subgoal = open_session(contents, SUBGOAL_FILE, CPU, [[1, dim], [1]], [1, 1, dim])
        pair: list[list[int | None]] = [[None, dim], [None, dim]]
        self._inverse = open_session(contents, INVERSE_FILE, CPU, pair, [None, ANY, actions])
        self.frames = int(_shape(self._sequence)[1])
        self.every = int(_shape(self._inverse)[1])
        self.ticks = self.frames * self.every
        self._goal_actions = open_session(
            contents, GOAL_ACTIONS_FILE, CPU, [[1, dim], [1, dim]], [1, self.ticks, actions]
        )
        self._dim = dim

    def imagine(self, latent: FloatArray, instruction: str, mode: str = "sequence") -> Video:
        """What follows the latent (D,) under `instruction`.

        sequence: K frames and the inverse dynamics between them. subgoal: the last frame alone and actions
        towards it. Raises ValueError for an unknown mode or instruction, listing the known.
        """
        if mode not in MODES:
            raise ValueError(f"mode of video: expected one of {', '.join(MODES)}, got {mode!r}")
        task = self._tasks.get(_plain(instruction))
        if task is None:
            raise ValueError(f"unknown instruction {instruction!r}; valid: {'; '.join(self.tasks)}")
        start = np.ascontiguousarray(latent, np.float32)[None]
        if start.shape != (1, self._dim):
            raise ValueError(f"latent: expected ({self._dim},), got {start.shape[1:]}")
        feed = {"latent": start, "task": np.array([task], np.int64)}
        if mode == "subgoal":
            goal = self._subgoal.run(None, feed)[0][0]
            return Video(goal, self._goal_actions.run(None, {"latent": start, "later": goal})[0][0])
        latents = self._sequence.run(None, feed)[0][0]
        actions = self.between(np.concatenate([start, latents[:-1]]), latents)
        return Video(latents, actions.reshape(self.ticks, -1))

    def between(self, latents: FloatArray, later: FloatArray) -> FloatArray:
        """Inverse dynamics: the actions (N, every, A) from latents (N, D) to those `every` ticks later."""
        pair = (np.ascontiguousarray(each, np.float32) for each in (latents, later))
        return self._inverse.run(None, dict(zip(("latent", "later"), pair, strict=True)))[0]


def _plain(instruction: str) -> str:
    """The same words whatever their case, spacing and full stop."""
    return " ".join(instruction.lower().rstrip(" .").split())


def _shape(session: object) -> list[int]:
    return session.get_outputs()[0].shape  # type: ignore[attr-defined]

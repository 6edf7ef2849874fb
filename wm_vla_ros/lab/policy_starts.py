"""What policies propose from held-out observations: what is imagined of it, and how far off it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import frames
from wm_vla_ros.judging.encodings import check_layout, encode_rows
from wm_vla_ros.judging.judged import spread
from wm_vla_ros.judging.way_left import way_left
from wm_vla_ros.rig.collect import PLAY_TASK
from wm_vla_ros.rig.controllers import Policy
from wm_vla_ros.tasks.task import Task, from_instruction
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel


@dataclass(frozen=True)
class Starts:
    """Held-out observations in the midst of a task: rows (n,) of `data`, and what each is about (n)."""

    data: EpisodeArrays
    rows: NDArray[np.int64]
    tasks: tuple[Task, ...]

    @property
    def episode(self) -> NDArray[np.int64]:
        """(n,) episodes of the rows."""
        return self.data.row_episode()[self.rows]

    def of(self, task: str) -> NDArray[np.int64]:
        """Which of them are about the task of this name."""
        return np.flatnonzero([own.name == task for own in self.tasks])

    def propose(self, policy: Policy) -> FloatArray:
        """The policy's chunks (n, chunk_size, 7). Raises ValueError for a camera that was not recorded."""
        images = {camera: frames(self.data, camera, self.rows) for camera in self.data.images}
        return np.stack(
            [
                policy.infer(
                    {name: seen[at] for name, seen in images.items()}, self.data.states[row], task.instruction
                )
                for at, (row, task) in enumerate(zip(self.rows, self.tasks, strict=True))
            ]
        )

    def errors(self, chunks: FloatArray) -> NDArray[np.float64]:
        """(n,) mean absolute difference of chunks from the demonstrator's actions, to the episode's end."""
        last = self.data.starts[self.episode + 1] - 1
        ticks = self.rows[:, None] + np.arange(chunks.shape[1])
        shown = self.data.expert_actions[np.minimum(ticks, last[:, None])]
        error, within = np.mean(np.abs(chunks - shown), axis=-1), ticks <= last[:, None]
        return np.sum(error * within, axis=1) / within.sum(1)

    def covered(self, model: WorldModel, latents: FloatArray, chunks: FloatArray) -> NDArray[np.float64]:
        """(n,) share of the way left that chunks cover when they are imagined from latents (n, D).

        1: all of it, 0: none, and at worst -1, further away by as much.
        """
        names = model.grounding_names
        now, then = model.ground(latents), model.ground(model.rollout(latents, chunks)[:, -1])
        left = np.array([way_left(task, names, at) for task, at in zip(self.tasks, now, strict=True)])
        after = np.array([way_left(task, names, at) for task, at in zip(self.tasks, then, strict=True)])
        return np.clip((left - after) / left, -1.0, 1.0)


def find_starts(
    models: Mapping[str, WorldModel], data: EpisodeArrays, tasks: Sequence[str], most: int
) -> tuple[Starts, dict[str, FloatArray]]:
    """At most so many observations of each of `tasks`, evenly spread, that are not done yet; their latents.

    Raises ValueError for data of another layout, or without one of the tasks.
    """
    for model in models.values():
        check_layout(model, data)
    about = [None if text == PLAY_TASK else from_instruction(text) for text in data.tasks]
    rows = data.frame_rows[~data.success[data.frame_rows]]
    of_row = [about[data.episode_tasks[episode]] for episode in data.row_episode()[rows]]
    kept: list[int] = []
    for name in tasks:
        own = np.flatnonzero([task is not None and task.name == name for task in of_row])
        if not len(own):
            raise ValueError(f"no {name} among the held-out episodes: {', '.join(data.tasks)}")
        kept += spread(own, most).tolist()
    starts = Starts(data, rows[kept], tuple(task for at in kept if (task := of_row[at]) is not None))
    return starts, {label: encode_rows(model, data, starts.rows) for label, model in models.items()}

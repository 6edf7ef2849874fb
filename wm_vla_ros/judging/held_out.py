"""Fresh episodes that no training saw, recorded in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wm_vla_ros.data.episode import (
    ACTION,
    DISTURBED,
    ENVIRONMENT,
    EXPERT_ACTION,
    STATE,
    SUCCESS,
    DatasetSpec,
    Episode,
)
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.rig.collect import FIRST_SEED, CollectOptions, Recorder

# (policy, task, first scene seed). Scenes below FIRST_SEED are never recorded for training.
KINDS = (("expert", "reach", 50_000), ("expert", "push", 60_000), ("play", None, 70_000))
_FITTED = 5_000
# Scenes that linear probes are fitted on: many, since a probe of a few scenes learns those by heart.
PROBE_SCENES, _FIRST_PROBE, _PROBE_SECONDS, _PROBE_STRIDE = 120, 80_000, 2.0, 10
assert max(_FIRST_PROBE + PROBE_SCENES, *(first for _, _, first in KINDS)) < FIRST_SEED

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Cameras:
    """Which cameras to render, all of one size in pixels."""

    names: tuple[str, ...]
    height: int
    width: int


def record(
    episodes: int,
    robot: str,
    cameras: Cameras,
    progress: Progress = lambda done: None,
    *,
    fitted: bool = False,
) -> EpisodeArrays:
    """`episodes` of each kind, at every row a frame: reach and push with disturbances, and play.

    Light, table colour and the front camera's pose differ from scene to scene. fitted: in other scenes, for
    what is fitted before it is judged. Raises ValueError when `episodes` is not at least 1.
    """
    recorded: list[Episode] = []
    for policy, task, first in KINDS:
        recorder = _recorder(policy, task, robot, cameras, 1, episodes)
        first += _FITTED if fitted else 0
        for seed in range(first, first + episodes):
            recorded.append(recorder.scene(seed))
            progress(len(recorded))
        recorder.close()
    return stack(recorded, recorder.dataset)


def record_probe_scenes(
    robot: str, cameras: Cameras, progress: Progress = lambda done: None
) -> EpisodeArrays:
    """Some seconds of play in each of PROBE_SCENES scenes, with a frame every 0.2 s."""
    recorder = _recorder("play", None, robot, cameras, _PROBE_STRIDE, PROBE_SCENES)
    recorded: list[Episode] = []
    for seed in range(_FIRST_PROBE, _FIRST_PROBE + PROBE_SCENES):
        recorded.append(recorder.scene(seed, _PROBE_SECONDS))
        progress(len(recorded))
    recorder.close()
    return stack(recorded, recorder.dataset)


def _recorder(
    policy: str, task: str | None, robot: str, cameras: Cameras, stride: int, episodes: int
) -> Recorder:
    return Recorder(
        CollectOptions(
            episodes,
            policy,
            task,
            robot=robot,
            cameras=cameras.names,
            width=cameras.width,
            height=cameras.height,
            frame_stride=stride,
        )
    )


def stack(episodes: Sequence[Episode], spec: DatasetSpec) -> EpisodeArrays:
    """Episodes as the arrays that `load_episodes` gives. Raises ValueError on the first that does not fit."""
    for episode in episodes:
        episode.validate(spec)
    lengths = [len(episode) for episode in episodes]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    frame_rows = np.concatenate(
        [episode.frame_rows + start for episode, start in zip(episodes, starts, strict=False)]
    )
    has_frame = np.zeros(starts[-1], bool)
    has_frame[frame_rows] = True
    tasks = tuple(dict.fromkeys(episode.task for episode in episodes))

    def column(name: str) -> np.ndarray:
        return np.concatenate([episode.columns[name] for episode in episodes])

    return EpisodeArrays(
        images={
            camera: np.concatenate([episode.frames[camera] for episode in episodes])
            for camera in spec.cameras
        },
        frame_rows=frame_rows,
        row_frame=np.cumsum(has_frame) - 1,
        states=column(STATE),
        actions=column(ACTION),
        expert_actions=column(EXPERT_ACTION),
        environment=column(ENVIRONMENT),
        disturbed=column(DISTURBED)[:, 0].astype(bool),
        success=column(SUCCESS)[:, 0].astype(bool),
        starts=starts,
        episode_tasks=np.asarray([tasks.index(episode.task) for episode in episodes]),
        seeds=np.asarray([episode.seed for episode in episodes]),
        tasks=tasks,
        state_names=spec.state_names,
        action_names=spec.action_names,
        environment_names=spec.environment_names,
        robot=spec.robot,
        dt=1.0 / spec.fps,
    )

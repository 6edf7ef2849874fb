"""Records episodes in simulation, faster than real time, in several processes, into one data set.

Each process simulates, renders and encodes its own share of the episodes; the parent writes rows and
metadata in episode order. What an episode holds depends on its seed alone, not on how many processes there
were.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_vla_ros.config import defaults
from wm_vla_ros.data.episode import (
    ACTION,
    DISTURBED,
    ENVIRONMENT,
    EXPERT_ACTION,
    FRAME_AGE,
    STATE,
    SUCCESS,
    DatasetSpec,
    Episode,
    EpisodeBuffer,
)
from wm_vla_ros.rig.behaviours import Interruption, NoInterruption, NoiseBursts, PolicyTurns
from wm_vla_ros.robots.spec import RobotSpec, load_robot
from wm_vla_ros.tasks.task import INSTRUCTIONS, OBJECT_STATE_NAMES, TASKS, Task, task_for_seed
from wm_vla_ros.types import EE_ACTION_NAMES

POLICIES = ("expert", "play", "glance", "dagger")
CAMERAS = ("front", "wrist")
# Frames are rendered at every second row (25 Hz) and held in between: as cameras do.
FRAME_STRIDE = 2
PLAY_TASK = "play"
PLAY_SECONDS = 6.0
# A glance is play for a few rows, with the tip anywhere within reach to begin with.
GLANCE_SECONDS = 0.08
# Rows recorded after success, in which the expert stays: a policy has to learn to stop.
ROWS_AFTER_SUCCESS = 30
# Scene seeds below this are for evaluation and never recorded.
FIRST_SEED = 1_000_000
# Share of demonstrations that begin where an earlier instruction, followed for so many ticks, has led.
EARLIER_SHARE, EARLIER_TICKS = 0.5, (20, 250)
# Seconds that the policy infers while it acts, with policy "dagger".
VLA_LATENCY = 0.1
_RETRY, _ATTEMPTS = 100_000, 9


@dataclass(frozen=True)
class CollectOptions:
    """What to record. task: "reach" or "push", or None with policy "play".

    policy: "expert" (noise: with bursts of disturbance), "play" (random contact-rich motion), "glance" (a
    moment of play, the arm anywhere: many scenes for little, and an encoder learns from scenes where things
    are), or "dagger" (a trained policy from `checkpoint` acts through both loops, in turns with the expert).
    Failed demonstrations are recorded anew from another seed. seed: number of the series; every series has
    its own scenes. frame_stride: rows from one rendered frame to the next; LeRobot's rows in between hold the
    frame before them.
    """

    episodes: int
    policy: str
    task: str | None = None
    seed: int = 0
    noise: bool = True
    checkpoint: str | None = None
    world_model: str = field(default_factory=lambda: defaults().world_model)
    robot: str = field(default_factory=lambda: defaults().robot)
    cameras: tuple[str, ...] = CAMERAS
    width: int = 96
    height: int = 96
    frame_stride: int = FRAME_STRIDE

    def __post_init__(self) -> None:
        if self.frame_stride < 1:
            raise ValueError(f"frame_stride must be at least 1, got {self.frame_stride}")
        if self.policy not in POLICIES:
            raise ValueError(f"unknown policy {self.policy!r}; valid: {', '.join(POLICIES)}")
        if not self.playing and self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; valid: {', '.join(TASKS)}")
        if not 1 <= self.episodes <= _RETRY:
            raise ValueError(f"episodes must be between 1 and {_RETRY}, got {self.episodes}")
        if not 0 <= self.seed < 1000:
            raise ValueError(f"seed must be between 0 and 999, got {self.seed}")
        if (self.policy == "dagger") != (self.checkpoint is not None):
            raise ValueError("a checkpoint goes with policy 'dagger', and only with it")

    @property
    def playing(self) -> bool:
        """Whether nothing is demonstrated."""
        return self.policy in ("play", "glance")

    def scene_seed(self, episode: int, attempt: int) -> int:
        """Seed of an episode's scene; attempt counts its failed demonstrations."""
        return FIRST_SEED * (1 + self.seed) + attempt * _RETRY + episode


@dataclass(frozen=True)
class Collected:
    """What came of it. attempts: demonstrations tried; rows: written."""

    episodes: int
    attempts: int
    rows: int


def dataset_spec(spec: RobotSpec, options: CollectOptions) -> DatasetSpec:
    """Columns of the data set that `collect` writes for this robot."""
    from wm_vla_ros.robots.proprio import proprio_names

    return DatasetSpec(
        robot=spec.name,
        fps=round(1.0 / spec.dt),
        state_names=proprio_names(spec),
        action_names=EE_ACTION_NAMES,
        environment_names=OBJECT_STATE_NAMES,
        cameras=options.cameras,
        height=options.height,
        width=options.width,
    )


def collect(options: CollectOptions, out: Path, workers: int, progress: Any = None) -> Collected:
    """Record into the new folder `out` with this many processes.

    progress: called with the number of episodes written after each one. Raises FileExistsError when `out`
    exists, ValueError for options that do not fit, RuntimeError when a process fails or demonstrations keep
    failing. What was written until then is a valid data set.
    """
    from wm_vla_ros.data.lerobot_writer import EpisodeWriter, refuse_existing

    refuse_existing(out)
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    spec = dataset_spec(load_robot(options.robot), options)
    out.parent.mkdir(parents=True, exist_ok=True)
    attempts = rows = 0
    # Results wait here until those of earlier episodes have been written.
    waiting: dict[int, Any] = {}
    with (
        EpisodeWriter(out, spec) as writer,
        _Workers(options, out, min(workers, options.episodes)) as results,
    ):
        for number, episode, video, tried in results:
            waiting[number] = (episode, video)
            attempts += tried
            while writer.episodes in waiting:
                episode, video = waiting.pop(writer.episodes)
                writer.save_episode(episode, video)
                rows += len(episode)
                if progress is not None:
                    progress(writer.episodes)
    return Collected(options.episodes, attempts, rows)


class _Workers:
    """Context manager: the processes, and an iterator over what they record."""

    def __init__(self, options: CollectOptions, root: Path, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._options = options
        self._results: Any = context.Queue(maxsize=2 * count)
        self._processes = [
            context.Process(target=_work, args=(options, root, index, count, self._results), daemon=True)
            for index in range(count)
        ]

    def __enter__(self) -> Iterator[tuple[int, Episode, Any, int]]:
        for process in self._processes:
            process.start()
        return self._iterate()

    def __exit__(self, kind: object, *_: object) -> None:
        for process in self._processes:
            if kind is not None:
                process.terminate()
            process.join()

    def _iterate(self) -> Iterator[tuple[int, Episode, Any, int]]:
        finished = 0
        while finished < len(self._processes):
            try:
                message = self._results.get(timeout=5.0)
            except queue.Empty:
                for index, process in enumerate(self._processes):
                    if process.exitcode not in (None, 0):
                        raise RuntimeError(
                            f"recording process {index} ended with {process.exitcode}"
                        ) from None
                continue
            if message is None:
                finished += 1
            elif isinstance(message, str):
                raise RuntimeError(f"a recording process failed:\n{message}")
            else:
                yield message


def _work(options: CollectOptions, root: Path, index: int, count: int, results: Any) -> None:
    """One process: episodes index, index + count, ... into its own video files."""
    # More threads than processes make small matrix products slower, never faster.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        try:
            _record_share(options, root, index, count, results)
            send(results, None, _parent_lives)
        except Orphaned:
            raise
        except Exception:
            send(results, traceback.format_exc(), _parent_lives)
    except Orphaned:
        # Nobody is left to tell, and the queue's own thread would wait for a reader for ever.
        results.cancel_join_thread()


def _record_share(options: CollectOptions, root: Path, index: int, count: int, results: Any) -> None:
    from wm_vla_ros.data.video_shard import VideoShard

    recorder = Recorder(options)
    with VideoShard(root, recorder.dataset, chunk_index=index) as shard:
        for number in range(index, options.episodes, count):
            if not _parent_lives():
                raise Orphaned("the recording's parent process ended")
            episode, attempts = recorder.record(number)
            episode.validate(recorder.dataset)
            video = shard.append(episode)
            # Frames are in the video by now; sending them as well would cost more than encoding.
            send(results, (number, replace(episode, frames={}), video, attempts), _parent_lives)


class Orphaned(RuntimeError):
    """The process that asked for the recording is gone."""


def send(results: Any, message: object, parent_lives: Callable[[], bool]) -> None:
    """Put `message` into a bounded queue, waiting for room. Raises Orphaned once nobody can make room."""
    while True:
        try:
            results.put(message, timeout=1.0)
            return
        except queue.Full:
            if not parent_lives():
                raise Orphaned("the recording's parent process ended") from None


def _parent_lives() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


class Recorder:
    """Records single episodes in one world."""

    def __init__(self, options: CollectOptions) -> None:
        from wm_vla_ros.rig.simulated_arm import SimulatedArm

        self.options = options
        self.spec = load_robot(options.robot)
        self.dataset = dataset_spec(self.spec, options)
        self._arm = SimulatedArm(self.spec, options.width, options.height)
        self._task: Task | None = None
        self._interruption = self._make_interruption()

    def record(self, number: int) -> tuple[Episode, int]:
        """Episode `number` of the series, and how many attempts it took. Raises RuntimeError if all fail."""
        for attempt in range(_ATTEMPTS):
            seed = self.options.scene_seed(number, attempt)
            episode = self.scene(seed)
            if self.options.playing or episode.columns[SUCCESS].any():
                return episode, attempt + 1
        raise RuntimeError(f"episode {number}: the expert failed {_ATTEMPTS} times in a row")

    def scene(self, seed: int, play_seconds: float = PLAY_SECONDS) -> Episode:
        """One episode in the scene of `seed`, whether it succeeds or not; play lasts `play_seconds`."""
        if self.options.policy == "glance":
            return self._play(seed, GLANCE_SECONDS, anywhere=True)
        return self._play(seed, play_seconds) if self.options.playing else self._demonstrate(seed)

    def close(self) -> None:
        """Free the renderer."""
        self._arm.world.close()

    def _demonstrate(self, seed: int) -> Episode:
        from wm_vla_ros.sim.expert import ScriptedExpert

        task = task_for_seed(str(self.options.task), seed)
        self._task = task
        self._arm.reset(seed, task)
        self._come_from_elsewhere(task, np.random.default_rng([seed, 5]))
        self._interruption.start(np.random.default_rng([seed, 3]))
        expert = ScriptedExpert(self.spec, task)
        buffer = EpisodeBuffer()
        rows = round(task.time_limit / self.spec.dt)
        since_success = 0
        while buffer.rows < rows and since_success < ROWS_AFTER_SUCCESS:
            label = expert.action(self._arm.world)
            instead = self._interruption(label)
            action = label if instead is None else instead
            reached = self._row(buffer, action, label, disturbed=instead is not None)
            since_success = since_success + 1 if reached else 0
        episode = buffer.build(task.instruction, seed)
        # A success that was passed through on the way, and lost, is no demonstration of the task.
        if not reached:
            episode.columns[SUCCESS][:] = False
        return episode

    def _come_from_elsewhere(self, task: Task, rng: np.random.Generator) -> None:
        """In half of the episodes the arm is still where an earlier instruction has left it."""
        from wm_vla_ros.sim.expert import ScriptedExpert

        others = [other for other in INSTRUCTIONS.values() if other != task]
        expert = ScriptedExpert(self.spec, others[rng.integers(len(others))])
        ticks = int(rng.integers(*EARLIER_TICKS))
        if rng.random() < EARLIER_SHARE:
            for _ in range(ticks):
                self._arm.apply(expert.action(self._arm.world))

    def _play(self, seed: int, seconds: float, anywhere: bool = False) -> Episode:
        from wm_vla_ros.sim.layout import sample_layout
        from wm_vla_ros.sim.play import PlayPolicy, tip_among

        self._task = None
        start = tip_among(sample_layout(seed), np.random.default_rng([seed, 6])) if anywhere else None
        self._arm.reset(seed, None, start)
        policy = PlayPolicy(self.spec, np.random.default_rng([seed, 4]))
        buffer = EpisodeBuffer()
        for _ in range(round(seconds / self.spec.dt)):
            action = policy.action(self._arm.world)
            self._row(buffer, action, action, disturbed=True)
        return buffer.build(PLAY_TASK, seed)

    def _row(self, buffer: EpisodeBuffer, action: np.ndarray, label: np.ndarray, disturbed: bool) -> bool:
        """Observe, act, and store both as one row; returns whether the task is done after it."""
        arm = self._arm
        age = buffer.rows % self.options.frame_stride
        values = {
            STATE: arm.proprio(),
            EXPERT_ACTION: label,
            ENVIRONMENT: arm.world.object_state(),
            FRAME_AGE: age * self.spec.dt,
            DISTURBED: disturbed,
        }
        images = arm.images(self.options.cameras) if age == 0 else None
        executed = arm.apply(action)
        reached = self._task is not None and arm.success(self._task)
        buffer.add(values | {ACTION: executed, SUCCESS: reached}, images)
        return reached

    def _make_interruption(self) -> Interruption:
        if self.options.policy == "dagger":
            return self._stack_turns()
        return NoiseBursts(self.spec) if self.options.noise else NoInterruption()

    def _stack_turns(self) -> PolicyTurns:
        from wm_vla_ros import world_models
        from wm_vla_ros.rig.controllers import TwoLoops
        from wm_vla_ros.rig.stack_actor import StackActor
        from wm_vla_ros.vla.policy import SlowPolicy

        policy = SlowPolicy(str(self.options.checkpoint), robot=self.spec)
        model = world_models.load(self.options.world_model, robot=self.spec)
        loops = TwoLoops(policy, model, self.spec, VLA_LATENCY)
        cameras = sorted({*policy.cameras, *model.manifest.cameras})
        actor = StackActor(loops, self._arm, cameras, self.options.frame_stride)

        def restart() -> None:
            assert self._task is not None
            actor.restart(self._task)

        return PolicyTurns(actor.act, restart)

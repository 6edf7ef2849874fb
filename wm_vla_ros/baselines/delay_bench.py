"""`wm-vla bench delay`: what latency costs, and what hides it.

Every contestant drives the same policy on the same seeds in the same simulator; only what happens between
camera and command differs. The slow policy's latency is swept on every task; the observations' delay, jitter
and drops on those that are named for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from wm_vla_ros.baselines.delay_controllers import CONTESTANTS, contestant
from wm_vla_ros.bench.policy_bench import bench_policy
from wm_vla_ros.rig.closed_loop import load_stack, worker_pool
from wm_vla_ros.rig.motion_trace import MotionTrace
from wm_vla_ros.rig.rig import EpisodeResult, RigConditions
from wm_vla_ros.tasks.task import task_for_seed

# moving: a reach whose cube travels; drift: a reach under a drift of the tool that nobody knows.
TASKS = {
    "reach": ("reach", {}),
    "push": ("push", {}),
    "moving": ("reach", {"target_speed": 0.03}),
    "drift": ("reach", {"drift_speed": 0.075}),
}
# The slow policy's latency while something else is swept, seconds.
BASE_LATENCY = 0.1
# Simulated seconds that an episode takes about: for saying beforehand how long the bench will run.
_EPISODE_SECONDS = {"reach": 1.8, "push": 8.0, "moving": 2.5, "drift": 3.5}


@dataclass(frozen=True, slots=True)
class Cell:
    """One task under one condition for one contestant.

    axis: latency (of the slow policy), delay, jitter (of the observations), all seconds; drop (share of the
    frames); own (the policy's measured latency, seconds).
    """

    task: str
    contestant: str
    axis: str
    value: float

    @property
    def label(self) -> str:
        """The condition as one word: 300ms, obs_80ms, jitter_50ms, drop_10pct, own."""
        thousandth = f"{self.value * 1e3:g}ms"
        return {
            "latency": thousandth,
            "delay": f"obs_{thousandth}",
            "jitter": f"jitter_{thousandth}",
            "drop": f"drop_{self.value * 100:g}pct",
            "own": "own",
        }[self.axis]

    def conditions(self) -> RigConditions:
        """What the rig is to do."""
        names = {"delay": "observation_delay", "jitter": "observation_jitter", "drop": "drop_ratio"}
        fields = dict(TASKS[self.task][1])
        fields[names.get(self.axis, "vla_latency")] = self.value
        return RigConditions(**{"vla_latency": BASE_LATENCY, **fields})


@dataclass(frozen=True, slots=True)
class DelayEpisode:
    """One episode. seam_jumps: m/s, one per seam. smooth_change: m/s, within chunks. jerk: RMS, m/s^3."""

    result: EpisodeResult
    seam_jumps: tuple[float, ...]
    smooth_change: float
    jerk: float


Results = dict[Cell, list[DelayEpisode]]


@dataclass(frozen=True, slots=True)
class DelaySettings:
    """What is run. latencies, delays, jitters in seconds, drops as shares; an empty axis is left out.

    observation_tasks: on which delay, jitter and drops of the observations are swept.
    """

    tasks: tuple[str, ...]
    observation_tasks: tuple[str, ...]
    contestants: tuple[str, ...]
    seeds: tuple[int, ...]
    latencies: tuple[float, ...]
    delays: tuple[float, ...]
    jitters: tuple[float, ...]
    drops: tuple[float, ...]
    robot: str
    policy: str
    world_model: str

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown name, listing the valid ones, or a value out of range."""
        for kind, chosen, valid in (
            ("tasks", self.tasks, TASKS),
            ("observation_tasks", self.observation_tasks, TASKS),
            ("contestants", self.contestants, CONTESTANTS),
        ):
            unknown = [name for name in chosen if name not in valid]
            if unknown or not chosen:
                raise ValueError(f"unknown {kind} {', '.join(unknown) or 'none'}; valid: {', '.join(valid)}")
        limits = {"latencies": 10.0, "delays": 1.0, "jitters": 1.0, "drops": 0.95}
        for name, most in limits.items():
            for value in getattr(self, name):
                if not 0.0 <= value <= most:
                    raise ValueError(f"{name}: {value:g} is not between 0 and {most:g}")

    def cells(self, own_latency: float) -> list[Cell]:
        """Everything to be run. own_latency: of the policy, seconds."""
        cells = [
            Cell(task, name, "latency", latency)
            for task, latency, name in product(self.tasks, self.latencies, self.contestants)
        ]
        axes = {"delay": self.delays, "jitter": self.jitters, "drop": self.drops}
        for task, (axis, values) in product(self.observation_tasks, axes.items()):
            cells += [Cell(task, name, axis, value) for value, name in product(values, self.contestants)]
        if {"ours", "sync"} <= set(self.contestants):
            undisturbed = [task for task in self.tasks if task != "drift"]
            cells += [
                Cell(task, name, "own", own_latency) for task, name in product(undisturbed, ("ours", "sync"))
            ]
        return cells


def parse_values(name: str, text: str, unit: float) -> tuple[float, ...]:
    """Numbers of "0,100,300" times `unit`, each once; no numbers for "none". Raises ValueError otherwise."""
    if text.strip() == "none":
        return ()
    try:
        return tuple(dict.fromkeys(round(float(part) * unit, 6) for part in text.split(",")))
    except ValueError:
        raise ValueError(f"{name} must be a comma list of numbers, or none, got {text!r}") from None


@dataclass(frozen=True, slots=True)
class Calibration:
    """This machine. policy_latency: median seconds of an inference. speed: seconds of work per simulated."""

    policy_latency: float
    speed: float


def run(
    settings: DelaySettings,
    workers: int,
    begin: Callable[[int, float], None] = lambda episodes, seconds: None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Results, Calibration]:
    """Run every cell over every seed. begin: told the number of episodes and about how long they will take,
    in seconds. progress: told the share that is done, 0 to 1.

    Raises whatever loading the models raises.
    """
    with worker_pool(workers) as pool:
        calibration = pool.submit(calibrate, settings).result()
        jobs = list(product(settings.cells(calibration.policy_latency), settings.seeds))
        simulated = sum(_EPISODE_SECONDS[cell.task] for cell, _ in jobs)
        begin(len(jobs), simulated * calibration.speed / workers)
        pending = {pool.submit(partial(episode, settings), *job): job for job in jobs}
        results: Results = {cell: [] for cell, _ in jobs}
        for done, future in enumerate(as_completed(pending), start=1):
            results[pending[future][0]].append(future.result())
            progress(done / len(jobs))
    for episodes in results.values():
        episodes.sort(key=lambda episode: episode.result.seed)
    return results, calibration


def calibrate(settings: DelaySettings) -> Calibration:
    """Time the policy and one short episode, after one that allocates, on this machine."""
    stack = load_stack(settings.robot, settings.policy, settings.world_model)
    figures = bench_policy("policy", stack.policy, stack.spec, stack.policy.instructions[0], 15)
    latency = float(figures[0].value) * 1e-3
    cell = Cell("reach", "ours" if "ours" in settings.contestants else "sync", "latency", 0.1)
    episode(settings, cell, settings.seeds[0])
    started = time.perf_counter()
    found = episode(settings, cell, settings.seeds[0])
    return Calibration(latency, (time.perf_counter() - started) / max(found.result.time, 1e-3))


def episode(settings: DelaySettings, cell: Cell, seed: int) -> DelayEpisode:
    """One episode of `cell`."""
    stack = load_stack(settings.robot, settings.policy, settings.world_model)
    conditions = cell.conditions()
    inner = contestant(cell.contestant, stack.policy, stack.model, stack.spec, conditions.vla_latency)
    trace = MotionTrace(inner, stack.spec)
    result = stack.rig.run(seed, task_for_seed(TASKS[cell.task][0], seed), trace, conditions)
    return DelayEpisode(result, trace.seam_jumps(), trace.smooth_change(), trace.jerk())


def times(episodes: list[DelayEpisode]) -> np.ndarray:
    """Task times (n,) in seconds, by seed; a failure counts with the task's whole time limit."""
    return np.array([episode.result.time for episode in episodes])


def wins(episodes: list[DelayEpisode]) -> np.ndarray:
    """Success (n,) as 0 or 1, by seed."""
    return np.array([float(episode.result.success) for episode in episodes])

"""`wm-vla eval tasks`: success and time of the whole loop over unseen seeds, beside the policy alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.report import Figure, Report, conditions, mean_interval, proportion
from wm_vla_ros.rig.rig import Controller, EpisodeResult, RigConditions
from wm_vla_ros.tasks.task import TASKS, task_for_seed

if TYPE_CHECKING:
    from wm_vla_ros.rig.rig import Rig
    from wm_vla_ros.robots.spec import RobotSpec
    from wm_vla_ros.vla.open_policy import Policy
    from wm_vla_ros.world_models.protocol import WorldModel

# What runs unasked, and what else can: the fast loop alone, given the latent of its goal.
CONTROLLERS = ("stack", "policy_alone")
ALL_CONTROLLERS = (*CONTROLLERS, "goal_latent")


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """What to evaluate. robot, policy, world_model: names or paths. planner: of the fast loop."""

    task: str
    seeds: tuple[int, ...]
    robot: str
    policy: str
    world_model: str
    rig: RigConditions
    planner: MpcConfig = field(default_factory=MpcConfig)


def parse_planner(settings: Sequence[str]) -> MpcConfig:
    """The planner's configuration with these changes, each "name=value" of a number or a flag.

    Raises ValueError for a name that is none, listing the valid ones, or a value of another kind.
    """
    kinds = {
        entry.name: type(getattr(MpcConfig(), entry.name))
        for entry in fields(MpcConfig)
        if isinstance(getattr(MpcConfig(), entry.name), bool | int | float)
    }
    read = {
        bool: {"true": True, "false": False}.__getitem__,
        int: int,
        float: float,
    }
    changes = {}
    for text in settings:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise ValueError(f"unknown planner setting {name!r}; valid: {', '.join(sorted(kinds))}")
        try:
            changes[name] = read[kinds[name]](value)
        except (ValueError, KeyError):
            kind = {bool: "true or false", int: "a whole number", float: "a number"}[kinds[name]]
            raise ValueError(f"planner setting {name}: expected {kind}, got {value!r}") from None
    return replace(MpcConfig(), **changes)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds of "1000:1100" (end excluded) or "1,2,3". Raises ValueError saying what is expected."""
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            seeds = tuple(range(first, last))
        else:
            seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be FIRST:LAST (end excluded) or a comma list, got {text!r}")
    return seeds


def evaluate(
    settings: EvalSettings,
    controllers: Sequence[str] = CONTROLLERS,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Report, dict[str, list[EpisodeResult]]]:
    """Run every seed under every controller. Returns the report and the single episodes by controller.

    Raises ValueError for an unknown task or controller, and whatever loading the models raises.
    """
    if settings.task not in TASKS:
        raise ValueError(f"unknown task {settings.task!r}; valid: {', '.join(TASKS)}")
    unknown = set(controllers) - set(ALL_CONTROLLERS)
    if unknown:
        raise ValueError(f"unknown controllers {sorted(unknown)}; valid: {', '.join(ALL_CONTROLLERS)}")
    jobs = [(name, seed) for seed in settings.seeds for name in controllers]
    results: dict[str, list[EpisodeResult]] = {name: [] for name in controllers}
    with worker_pool(workers) as pool:
        pending = {pool.submit(partial(_episode, settings), *job): job for job in jobs}
        for done, future in enumerate(as_completed(pending), start=1):
            results[pending[future][0]].append(future.result())
            progress(done)
    for episodes in results.values():
        episodes.sort(key=lambda episode: episode.seed)
    return _report(settings, results), results


def _report(settings: EvalSettings, results: dict[str, list[EpisodeResult]]) -> Report:
    figures: list[Figure] = []
    for name, episodes in results.items():
        suffix = "" if name == "stack" else f"_{name}"
        wins = [episode for episode in episodes if episode.success]
        figures.append(proportion(f"{settings.task}.success{suffix}", len(wins), len(episodes)))
        times = [episode.time for episode in episodes]
        figures.append(mean_interval(f"{settings.task}.time{suffix}", times, "s"))
    if set(CONTROLLERS) <= set(results):
        figures.append(_time_ratio(settings.task, results))
    where = {
        "loop": "in-process, virtual time, deployed cores",
        "seeds": f"{settings.seeds[0]}..{settings.seeds[-1]} ({len(settings.seeds)})",
        "policy": settings.policy,
        "world_model": settings.world_model,
        **asdict(settings.rig),
        "planner": _changes(settings.planner),
    }
    return Report("eval tasks", {**where, **conditions()}, tuple(figures))


def _changes(planner: MpcConfig) -> str:
    """What differs from the defaults, as `parse_planner` reads it."""
    pairs = ((entry.name, getattr(planner, entry.name)) for entry in fields(MpcConfig))
    return ",".join(
        f"{name}={str(value).lower()}" for name, value in pairs if value != getattr(MpcConfig(), name)
    )


def _time_ratio(task: str, results: dict[str, list[EpisodeResult]]) -> Figure:
    """Mean task time over that of the policy alone, paired by seed, with a bootstrap interval.

    A failed episode counts with the task's whole time limit, under either controller.
    """
    ours = np.array([episode.time for episode in results["stack"]])
    alone = np.array([episode.time for episode in results["policy_alone"]])
    rng = np.random.default_rng(0)
    picks = rng.integers(len(ours), size=(2000, len(ours)))
    ratios = ours[picks].sum(axis=1) / alone[picks].sum(axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    value = float(ours.sum() / alone.sum())
    return Figure(f"{task}.time_ratio", value, "", len(ours), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Stack:
    """What a worker needs to run episodes, loaded."""

    spec: RobotSpec
    model: WorldModel
    policy: Policy
    rig: Rig


@cache
def load_stack(robot: str, policy: str, world_model: str) -> Stack:
    """Models and simulator by name or path: loaded once per process. Raises whatever loading raises."""
    from wm_vla_ros import world_models
    from wm_vla_ros.rig.rig import Rig
    from wm_vla_ros.robots.spec import load_robot
    from wm_vla_ros.vla.open_policy import open_policy

    spec = load_robot(robot)
    model = world_models.load(world_model, robot=spec)
    slow = open_policy(policy, robot=spec)
    cameras = tuple(sorted({*model.manifest.cameras, *slow.cameras}))
    return Stack(spec, model, slow, Rig(spec, cameras, (96, 96)))


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes of one thread each. Spawned: a forked GL context or torch pool would hang."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("MUJOCO_GL", "egl")
    import torch

    torch.set_num_threads(1)


def _episode(settings: EvalSettings, controller: str, seed: int) -> EpisodeResult:
    from wm_vla_ros.rig.controllers import PolicyAlone, TwoLoops
    from wm_vla_ros.rig.goal_latent import goal_of, towards_latent
    from wm_vla_ros.rig.towards_goal import TowardsGoal

    stack = load_stack(settings.robot, settings.policy, settings.world_model)
    latency, task = settings.rig.vla_latency, task_for_seed(settings.task, seed)
    driver: Controller
    if controller == "stack":
        driver = TwoLoops(stack.policy, stack.model, stack.spec, latency, settings.planner)
    elif controller == "goal_latent":
        goal = towards_latent(goal_of(stack.rig, stack.model, seed, task), stack.model)
        driver = TowardsGoal(goal, stack.model, stack.spec, settings.planner)
    else:
        driver = PolicyAlone(stack.policy, stack.spec, latency)
    return stack.rig.run(seed, task, driver, settings.rig)

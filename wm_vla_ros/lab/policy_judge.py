"""`wm-vla eval policies`: does a world model rank policies as the simulator does?

Every policy drives the arm alone, in the simulator and in the world model, in different scenes. Beside that:
chunks from held-out observations, imagined open loop, which needs no renderer, and their plain error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.faults import faulty_policy
from wm_vla_ros.judging import judged
from wm_vla_ros.judging.judged import Draw, Progress, part
from wm_vla_ros.lab.policy_ranking import Evidence, Ranked, plot, successes
from wm_vla_ros.lab.policy_starts import Starts, find_starts
from wm_vla_ros.report import Report, conditions
from wm_vla_ros.rig.closed_loop import worker_pool
from wm_vla_ros.rig.rig import RigConditions
from wm_vla_ros.tasks.task import TASKS, task_for_seed

if TYPE_CHECKING:
    from wm_vla_ros.lab.imagined_drive import ImaginedArm
    from wm_vla_ros.rig.controllers import Policy
    from wm_vla_ros.rig.rig import Rig
    from wm_vla_ros.robots.spec import RobotSpec
    from wm_vla_ros.world_models.protocol import WorldModel

# Fewer say nothing about an order.
FEWEST = 4
# What is ranked where no policies are named: one policy, and its like with these faults.
FAULTS = ("gain=0.45", "gain=0.3", "noise=1.7", "noise=2.5", "bias=0.7", "bias=1", "deaf=0.6", "deaf=0.85")
# Scenes to imagine in are this much further on than those of the simulator.
_ELSEWHERE = 10_000
_PIXELS = (96, 96)


def graded(policy: str) -> tuple[str, ...]:
    """Nine policies of different quality made from one: itself, and with each of FAULTS."""
    return (policy, *(f"{policy}@{fault}" for fault in FAULTS))


def label_of(policy: str) -> str:
    """What a policy is called in figures: the last part of its folder, and its fault."""
    return Path(policy).name


@dataclass(frozen=True)
class Ranking:
    """What to rank. policies: names as `faulty_policy.load` takes them. tasks: of TASKS, over `seeds`.

    starts: held-out observations of each task to imagine from, open loop. Raises ValueError for fewer than
    four policies, one named twice, or an unknown task.
    """

    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    starts: int = 200
    latency: float = 0.1

    def __post_init__(self) -> None:
        labels = [label_of(name) for name in self.policies]
        if len(labels) < FEWEST or len(set(labels)) < len(labels):
            raise ValueError(f"ranking needs {FEWEST} or more policies of different names, got {labels}")
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise ValueError(f"unknown tasks {unknown}; valid: {', '.join(TASKS)}")


def evaluate(
    world_models: Sequence[str],
    what: Ranking,
    data: Path | None = None,
    episodes: int = 12,
    workers: int = 1,
    progress: Progress = lambda share, note: None,
) -> tuple[Report, Draw]:
    """The report, and what draws it: figures `<family>.ranking.*`, `<family>.policy.*` and `policy.*`.

    data: a held-out data set, or None to record `episodes` of each kind. Raises ModelRefused for a model,
    PolicyRefused for a policy, ValueError when they do not fit together.
    """
    bench = judged.load_judged(world_models)
    robot = bench.simulated()
    policies = {label_of(name): faulty_policy.load(name, robot) for name in what.policies}
    for label, model in bench.models.items():
        odd = [name for name, (policy, _) in policies.items() if abs(policy.dt - model.dt) > 1e-6]
        if odd:
            raise ValueError(f"{label} has a period of {model.dt} s, which {', '.join(odd)} has not")
    names = {*bench.cameras.names, *(camera for _, looks in policies.values() for camera in looks)}
    cameras = tuple(sorted(names))
    bench = replace(bench, cameras=replace(bench.cameras, names=cameras))
    seen = judged.record_or_load(bench, data, episodes, part(progress, 0.0, 0.05))
    starts, latents = find_starts(bench.models, seen, what.tasks, what.starts)
    chunks = []
    for done, (name, (policy, _)) in enumerate(policies.items()):
        progress(0.05 + 0.05 * done / len(policies), f"{name} proposes")
        chunks.append(starts.propose(policy))
    arena = _Arena(robot.name, cameras, what.latency)
    driven = _everywhere(what, partial(_drive, arena), 0, workers, part(progress, 0.1, 0.6))
    imagined = {}
    for done, (label, name) in enumerate(zip(bench.models, world_models, strict=True)):
        first, last = (0.6 + 0.4 * share / len(bench.models) for share in (done, done + 1))
        imagine = partial(_imagine, arena, name)
        wins = _everywhere(what, imagine, _ELSEWHERE, workers, part(progress, first, last))
        imagined[label] = successes(wins)
    ranked = Ranked(
        tuple(policies),
        successes(driven),
        imagined,
        {
            label: _by_task(what, starts, [starts.covered(model, latents[label], own) for own in chunks])
            for label, model in bench.models.items()
        },
        _by_task(what, starts, [-starts.errors(own) for own in chunks]),
    )
    figures = tuple(ranked.figures())
    circumstances = {
        **bench.conditions(),
        "policies": list(what.policies),
        "vla_latency": what.latency,
        "seeds": f"{what.seeds[0]}..{what.seeds[-1]} ({len(what.seeds)}) of each task",
        "imagined_seeds": f"{_ELSEWHERE} further on",
        "data": data.name if data else "recorded for this evaluation, scenes never trained on",
        "starts": len(starts.rows),
        **conditions(),
    }
    return Report("eval policies", circumstances, figures), lambda path: plot(ranked, figures, path)


def _by_task(what: Ranking, starts: Starts, values: Sequence[NDArray[np.float64]]) -> Evidence:
    """Evidence of values (n,) of every policy from `starts`."""
    everything = np.stack(values)
    return Evidence(
        {task: everything[:, starts.of(task)] for task in what.tasks},
        {task: starts.episode[starts.of(task)] for task in what.tasks},
    )


@dataclass(frozen=True, slots=True)
class _Arena:
    """robot: its name. latency: of an inference, seconds."""

    robot: str
    cameras: tuple[str, ...]
    latency: float


def _everywhere(
    what: Ranking, run: Callable[[str, str, int], bool], further: int, workers: int, progress: Progress
) -> dict[str, NDArray[np.bool_]]:
    """task -> (policies, seeds): whether `run(policy, task, seed + further)` says so, of all of them."""
    wins = {task: np.zeros((len(what.policies), len(what.seeds)), bool) for task in what.tasks}
    jobs = list(product(enumerate(what.policies), what.tasks, enumerate(what.seeds)))
    with worker_pool(workers) as pool:
        pending = {
            pool.submit(run, name, task, seed + further): (task, row, column, name)
            for (row, name), task, (column, seed) in jobs
        }
        for done, future in enumerate(as_completed(pending), start=1):
            task, row, column, name = pending[future]
            wins[task][row, column] = future.result()
            progress(done / len(jobs), f"{label_of(name)}: {task}")
    return wins


@cache
def _policy(name: str, robot: str) -> tuple[Policy, RobotSpec]:
    from wm_vla_ros.robots.spec import load_robot

    spec = load_robot(robot)
    return faulty_policy.load(name, spec)[0], spec


@cache
def _rig(arena: _Arena) -> Rig:
    from wm_vla_ros.rig.rig import Rig
    from wm_vla_ros.robots.spec import load_robot

    return Rig(load_robot(arena.robot), arena.cameras, _PIXELS)


@cache
def _imagined(arena: _Arena, world_model: str) -> tuple[ImaginedArm, WorldModel]:
    from wm_vla_ros import world_models
    from wm_vla_ros.lab.imagined_drive import ImaginedArm
    from wm_vla_ros.robots.spec import load_robot

    spec = load_robot(arena.robot)
    return ImaginedArm(spec, arena.cameras, _PIXELS), world_models.load(world_model, robot=spec)


def _drive(arena: _Arena, policy: str, task: str, seed: int) -> bool:
    from wm_vla_ros.rig.controllers import PolicyAlone

    driver = PolicyAlone(*_policy(policy, arena.robot), arena.latency)
    under = RigConditions(vla_latency=arena.latency)
    return _rig(arena).run(seed, task_for_seed(task, seed), driver, under).success


def _imagine(arena: _Arena, world_model: str, policy: str, task: str, seed: int) -> bool:
    arm, model = _imagined(arena, world_model)
    return arm.drive(
        seed, task_for_seed(task, seed), _policy(policy, arena.robot)[0], model, arena.latency
    ).success

"""`wm-vla eval planning-vs-bc`: does planning with the world model beat imitation alone, and at what work?

The same policy, cloned from the same demonstrations, drives every episode. `planning` is the stack: its chunk
is imagined, tracked and improved upon by MPC. `bc` executes the chunk open loop and looks again when it has
run out; `bc_ensemble` infers while it moves and merges its chunks as ACT does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wm_vla_ros.baselines.delay_controllers import contestant
from wm_vla_ros.data.bootstrap import draws
from wm_vla_ros.judging.judged import Draw, Progress
from wm_vla_ros.report import Figure, Report, conditions, mean_interval, proportion
from wm_vla_ros.rig.closed_loop import load_stack, worker_pool
from wm_vla_ros.rig.rig import EpisodeResult, RigConditions
from wm_vla_ros.rig.task_types import TASK_TYPES

PLANNING, IMITATION = "planning", ("bc", "bc_ensemble")
# Names of `bench delay` for the same controllers.
_CONTESTANTS = {PLANNING: "ours", "bc": "sync", "bc_ensemble": "ensemble"}

Results = Mapping[tuple[str, str], Sequence[EpisodeResult]]


@dataclass(frozen=True, slots=True)
class Contest:
    """What is contested. types: of TASK_TYPES. robot, policy, world_model: names or paths.

    Raises ValueError for an unknown type, or none.
    """

    types: tuple[str, ...]
    seeds: tuple[int, ...]
    robot: str
    policy: str
    world_model: str
    rig: RigConditions

    def __post_init__(self) -> None:
        unknown = [name for name in self.types if name not in TASK_TYPES]
        if unknown or not self.types:
            said = ", ".join(unknown) or "none"
            raise ValueError(f"unknown task types {said}; valid: {', '.join(TASK_TYPES)}")


def evaluate(
    contest: Contest, workers: int = 1, progress: Progress = lambda share, note: None
) -> tuple[Report, Draw]:
    """Run every seed of every type under every controller: the report, and what draws it.

    Raises whatever loading the models raises.
    """
    jobs = list(product(contest.types, _CONTESTANTS, contest.seeds))
    results: dict[tuple[str, str], list[EpisodeResult]] = {}
    with worker_pool(workers) as pool:
        pending = {pool.submit(partial(_episode, contest), *job): job for job in jobs}
        for done, future in enumerate(as_completed(pending), start=1):
            name, controller, _ = pending[future]
            results.setdefault((name, controller), []).append(future.result())
            progress(done / len(jobs), f"{name}, {controller}")
    for episodes in results.values():
        episodes.sort(key=lambda episode: episode.seed)
    figures = tuple(figure for name in contest.types for figure in figures_of(name, results))
    where = {
        "loop": "in-process, virtual time, deployed cores",
        "seeds": f"{contest.seeds[0]}..{contest.seeds[-1]} ({len(contest.seeds)})",
        "policy": contest.policy,
        "world_model": contest.world_model,
        "vla_latency": contest.rig.vla_latency,
        "observation_delay": contest.rig.observation_delay,
        **conditions(),
    }
    return Report("eval planning-vs-bc", where, figures), lambda path: plot(contest.types, figures, path)


def figures_of(name: str, results: Results) -> list[Figure]:
    """Figures of one task type, from (type, controller) -> its episodes by seed.

    success: Wilson's interval. time: seconds, of a failure the whole limit. gain: planning's success less
    that of an imitation, drawn by seed since both have the same ones. favours: whose interval of success
    lies above all of the other side's, or neither; faster: the same of times, below.
    """
    out: list[Figure] = []
    success: dict[str, Figure] = {}
    took: dict[str, Figure] = {}
    for controller in _CONTESTANTS:
        episodes = results[name, controller]
        wins = sum(episode.success for episode in episodes)
        success[controller] = proportion(f"{name}.{controller}.success", wins, len(episodes))
        times = [episode.time for episode in episodes]
        took[controller] = mean_interval(f"{name}.{controller}.time", times, "s")
        out += [success[controller], took[controller]]
    for controller in IMITATION:
        pairs = zip(results[name, PLANNING], results[name, controller], strict=True)
        gains = np.array([float(ours.success) - float(theirs.success) for ours, theirs in pairs])
        low, high = np.percentile(gains[draws(len(gains))].mean(1), [2.5, 97.5])
        label = f"{name}.gain_over_{controller}"
        out.append(Figure(label, float(gains.mean()), "", len(gains), float(low), float(high)))
    count = len(results[name, PLANNING])
    out.append(Figure(f"{name}.favours", _clear(success, 1.0), "", count))
    return [*out, Figure(f"{name}.faster", _clear(took, -1.0), "", count)]


def _clear(found: Mapping[str, Figure], better: float) -> str:
    """Whose interval is clear of all of the other side's. better: 1 where more is better, -1 where less."""
    ends = {
        name: sorted((better * float(figure.low), better * float(figure.high)))
        for name, figure in found.items()
        if figure.low is not None and figure.high is not None
    }
    if len(ends) < len(found):  # one episode has no interval of its time
        return "neither"
    if ends[PLANNING][0] > max(ends[name][1] for name in IMITATION):
        return "planning"
    return "imitation" if ends[PLANNING][1] < max(ends[name][0] for name in IMITATION) else "neither"


def plot(types: Sequence[str], figures: Sequence[Figure], path: Path | BinaryIO) -> None:
    """A PNG: success and time by task type, a bar per controller, with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(canvas)
    found = {figure.name: figure for figure in figures}
    places, width = np.arange(len(types)), 0.8 / len(_CONTESTANTS)
    for axes, what, label in zip(
        canvas.subplots(1, 2), ("success", "time"), ("success", "task time, s"), strict=True
    ):
        for number, controller in enumerate(_CONTESTANTS):
            mine = [found[f"{name}.{controller}.{what}"] for name in types]
            at = places + number * width
            axes.bar(at, [float(figure.value) for figure in mine], width, label=controller)
            for place, figure in zip(at, mine, strict=True):
                if figure.low is not None:
                    axes.vlines(place, figure.low, figure.high, color="black")
        axes.set(ylabel=label, xticks=places + 0.4 - width / 2, xticklabels=types, ylim=(0, None))
    canvas.axes[0].legend(loc="lower left")
    canvas.savefig(path, dpi=80, format="png")


def _episode(contest: Contest, name: str, controller: str, seed: int) -> EpisodeResult:
    stack, kind = load_stack(contest.robot, contest.policy, contest.world_model), TASK_TYPES[name]
    latency = contest.rig.vla_latency
    driver = contestant(_CONTESTANTS[controller], stack.policy, stack.model, stack.spec, latency)
    first, *then = kind.instructions(seed)
    rig = replace(contest.rig, target_speed=kind.target_speed)
    return stack.rig.run(seed, first, driver, rig, then=then)

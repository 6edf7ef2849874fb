"""`wm-vla eval augment`: are demonstrations that a world model imagined worth anything to a policy?

Behaviour cloning on the model's latents, from N recorded demonstrations; from the same and `times` as many
that were imagined of them; and, since any disturbance of the input may help, from the recorded ones with
plain noise on their latents. All for the same number of gradient steps; all drive the simulated arm alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from wm_vla_ros.data.bootstrap import draws
from wm_vla_ros.judging.judged import Draw, Progress, part
from wm_vla_ros.report import Figure, Report, conditions, proportion
from wm_vla_ros.rig.closed_loop import worker_pool
from wm_vla_ros.rig.rig import EpisodeResult, RigConditions
from wm_vla_ros.tasks.task import from_instruction, task_for_seed

if TYPE_CHECKING:
    from wm_vla_ros.lab.augmented_set import Source
    from wm_vla_ros.rig.rig import Rig
    from wm_vla_ros.robots.spec import RobotSpec
    from wm_vla_ros.world_models.protocol import WorldModel

RECORDED, NOISE, IMAGINED = "recorded", "noise", "imagined"
ARMS = (RECORDED, NOISE, IMAGINED)
# Of each latent entry's own deviation.
_NOISE = 0.1

# (demonstrations, arm) -> episodes by seed.
Results = Mapping[tuple[int, str], Sequence[EpisodeResult]]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is asked. demos: numbers of recorded demonstrations. draws: of which ones; seeds take turns at
    them, so that intervals know how much depends on which were drawn. steps: of gradient, of every policy.

    Raises ValueError for numbers below 1, demos that do not increase, or fewer seeds than draws.
    """

    dataset: Path
    world_model: str
    demos: tuple[int, ...]
    times: int
    seeds: tuple[int, ...]
    steps: int
    draws: int = 2
    # A policy alone looks three times a second: rendering ten images in that time would be most of the work.
    rig: RigConditions = field(default_factory=lambda: RigConditions(camera_period=0.1))

    def __post_init__(self) -> None:
        for name in ("times", "steps", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.demos or min(self.demos) < 1 or list(self.demos) != sorted(set(self.demos)):
            raise ValueError(f"demos must be numbers from 1 on that increase, got {list(self.demos)}")
        if len(self.seeds) < self.draws:
            raise ValueError(f"{self.draws} draws need as many seeds or more, got {len(self.seeds)}")


def parse_demos(text: str) -> tuple[int, ...]:
    """Numbers of "10,30,100". Raises ValueError saying what is expected."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"demos must be whole numbers like 10,30,100, got {text!r}") from None


def evaluate(
    what: Augmentation, sets: Path, workers: int = 1, progress: Progress = lambda share, note: None
) -> tuple[Report, Draw]:
    """Make data sets and policies in the folder `sets`, drive, and count: the report, and what draws it.

    Raises FileExistsError where a data set is there already, ModelRefused for the world model, ValueError for
    a data set that cannot be imagined from, or whose instructions are not those of one task of the simulator.
    """
    from wm_vla_ros.lab.augmented_set import Source

    source = Source.open(what.dataset, what.world_model)
    task = task_of(source.data.tasks)
    for draw in range(what.draws):
        source.chosen(what.demos[-1], draw)
    made: dict[str, int] = {}
    pairs = list(product(what.demos, range(what.draws)))
    for number, (demos, draw) in enumerate(pairs):
        share = [0.4 * n / len(pairs) for n in (number, number + 1)]
        made |= _prepare(what, source, sets, demos, draw, part(progress, *share))
    results: dict[tuple[int, str], list[EpisodeResult]] = {}
    jobs = list(product(what.demos, ARMS, enumerate(what.seeds)))
    with worker_pool(workers) as pool:
        pending = {}
        for demos, arm, (place, seed) in jobs:
            policy = _policy(sets, demos, place % what.draws, arm)
            run = partial(_episode, what.world_model, str(policy.absolute()), task, seed, what.rig)
            pending[pool.submit(run)] = demos, arm
        for done, future in enumerate(as_completed(pending), start=1):
            results.setdefault(pending[future], []).append(future.result())
            progress(0.4 + 0.6 * done / len(jobs), "{} demonstrations, {}".format(*pending[future]))
    for episodes in results.values():
        episodes.sort(key=lambda episode: episode.seed)
    figures = [figure for demos in what.demos for figure in figures_of(demos, results)]
    figures += [Figure(f"{name}.rows", rows) for name, rows in made.items()]
    where = {
        "loop": "in-process, virtual time, deployed cores; the policy alone",
        "task": task,
        "dataset": source.name,
        "world_model": what.world_model,
        "trained_on": ",".join(source.model.manifest.dataset),
        "times": what.times,
        "steps": what.steps,
        "draws": what.draws,
        "seeds": f"{what.seeds[0]}..{what.seeds[-1]} ({len(what.seeds)})",
        "vla_latency": what.rig.vla_latency,
        "camera_period": what.rig.camera_period,
        **conditions(),
    }
    return Report("eval augment", where, tuple(figures)), lambda path: plot(what.demos, figures, path)


def task_of(instructions: Sequence[str]) -> str:
    """The simulator's task that all instructions are of. Raises ValueError when there is no such one."""
    tasks = {from_instruction(text).name for text in instructions}
    if len(tasks) != 1:
        raise ValueError(f"one task at a time is judged, the data set holds {', '.join(sorted(tasks))}")
    return tasks.pop()


def figures_of(demos: int, results: Results) -> list[Figure]:
    """Of N demonstrations. success: Wilson's interval. gain: of the imagined ones over either rival, drawn by
    seed since all have the same ones. favours: whose interval of success is clear above both others'.
    """
    won = {arm: np.array([e.success for e in results[demos, arm]], float) for arm in ARMS}
    success = {
        arm: proportion(f"demos_{demos}.{arm}.success", int(w.sum()), len(w)) for arm, w in won.items()
    }
    figures = list(success.values())
    for rival in (RECORDED, NOISE):
        gain = won[IMAGINED] - won[rival]
        low, high = np.percentile(gain[draws(len(gain))].mean(axis=1), [2.5, 97.5])
        figures.append(
            Figure(
                f"demos_{demos}.gain_over_{rival}", float(gain.mean()), "", len(gain), float(low), float(high)
            )
        )
    figures.append(Figure(f"demos_{demos}.favours", _favours(success), "", len(won[IMAGINED])))
    return figures


def plot(demos: Sequence[int], figures: Sequence[Figure], path: Path | BinaryIO) -> None:
    """A PNG: success over the number of recorded demonstrations, one line each, with 95 % intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    found = {figure.name: figure for figure in figures}
    for arm in ARMS:
        mine = [found[f"demos_{count}.{arm}.success"] for count in demos]
        (line,) = axes.plot(demos, [float(figure.value) for figure in mine], marker="o", label=arm)
        low, high = ([getattr(figure, end) for figure in mine] for end in ("low", "high"))
        axes.fill_between(demos, low, high, alpha=0.15, color=line.get_color())
    axes.set(xscale="log", xticks=demos, xticklabels=demos, xlabel="recorded demonstrations")
    axes.set(ylabel="success", ylim=(0, 1))
    axes.minorticks_off()
    axes.legend(loc="upper left")
    canvas.savefig(path, dpi=80, format="png")


def _favours(success: Mapping[str, Figure]) -> str:
    ends = {arm: (figure.low, figure.high) for arm, figure in success.items()}
    for arm in ARMS:
        if all(ends[arm][0] > ends[other][1] for other in ARMS if other != arm):
            return arm
    return "none"


def _policy(sets: Path, demos: int, draw: int, arm: str) -> Path:
    return sets / f"demos_{demos}_draw_{draw}_{arm}.safetensors"


def _prepare(
    what: Augmentation, source: Source, sets: Path, demos: int, draw: int, progress: Progress
) -> dict[str, int]:
    """One data set of recorded and imagined demonstrations, and a policy for each arm; rows by name."""
    from wm_vla_ros.data.latent_episodes import joined, load_latent_episodes, write_latent_episodes
    from wm_vla_ros.lab.imagined_demonstrations import imagine
    from wm_vla_ros.lab.latent_cloning import Cloning, clone

    root = sets / f"demos_{demos}_draw_{draw}"
    recorded = source.encoded(source.chosen(demos, draw), draw)
    imagined = imagine(source.model, recorded, what.times, draw, part(progress, 0.1, 0.5))
    write_latent_episodes(root, joined([recorded, imagined]))
    # From the file on: what a row is, is what its provenance says.
    data = load_latent_episodes(root)
    alone = data.only(np.flatnonzero(~data.imagined_episodes))
    for number, (arm, rows, noise) in enumerate(
        ((RECORDED, alone, 0.0), (NOISE, alone, _NOISE), (IMAGINED, data, 0.0))
    ):
        mine = part(progress, 0.5 + number / 6, 0.5 + (number + 1) / 6)
        note = f"{demos} demonstrations, cloning {arm}"
        clone(
            rows,
            _policy(sets, demos, draw, arm),
            Cloning(what.steps, draw, noise=noise),
            lambda share, mine=mine, note=note: mine(share, note),
        )
    return {f"demos_{demos}.draw_{draw}.recorded": len(alone.age)} | {
        f"demos_{demos}.draw_{draw}.imagined": len(data.age) - len(alone.age)
    }


@cache
def _loaded(world_model: str) -> tuple[RobotSpec, WorldModel, Rig]:
    from wm_vla_ros import world_models
    from wm_vla_ros.rig.rig import Rig
    from wm_vla_ros.robots.spec import load_robot
    from wm_vla_ros.world_models.manifest import read_manifest
    from wm_vla_ros.world_models.registry import find

    spec = load_robot(read_manifest(find(world_model)).robot)
    model = world_models.load(world_model, robot=spec)
    cameras = model.manifest.cameras
    return spec, model, Rig(spec, tuple(cameras), next(iter(cameras.values()), (96, 96)))


def _episode(world_model: str, policy: str, task: str, seed: int, conditions: RigConditions) -> EpisodeResult:
    from wm_vla_ros.rig.controllers import PolicyAlone
    from wm_vla_ros.vla.latent_policy import LatentPolicy

    spec, model, rig = _loaded(world_model)
    driver = PolicyAlone(LatentPolicy(Path(policy), model), spec, conditions.vla_latency)
    return rig.run(seed, task_for_seed(task, seed), driver, conditions)

"""`wm-vla eval success-prediction`: does a world model know beforehand whether a chunk will do the task?

Before anything moves, the policy's chunk is imagined, and how close it comes to what is asked for becomes a
probability. Half of the trials say how (Platt's scaling), the others are judged. Rivals: the share of
successes, and what is seen now, without imagining what comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import mapped, mean, quotient
from wm_vla_ros.faults import faulty_policy
from wm_vla_ros.judging import judged
from wm_vla_ros.judging.forecast import Platt, figures, reliability
from wm_vla_ros.judging.judged import Draw, Progress, part
from wm_vla_ros.judging.way_left import gap
from wm_vla_ros.lab.trials import Trials, record
from wm_vla_ros.report import Figure, Report, conditions, proportion
from wm_vla_ros.tasks.task import TASKS
from wm_vla_ros.world_models.protocol import WorldModel

if TYPE_CHECKING:
    from wm_vla_ros.judging.held_out import Cameras
    from wm_vla_ros.rig.controllers import Policy
    from wm_vla_ros.robots.spec import RobotSpec

# Faults of the policies that take turns beside the one that is named: outcomes have to differ.
FAULTS = ("noise=1", "deaf=0.5")


@dataclass(frozen=True)
class Foreseen:
    """Probabilities (n,) of success of the judged trials of one task, and what came.

    probability: by the imagined chunk; still: by what is seen at its start; rate: the share of successes
    among the other trials.
    """

    probability: NDArray[np.float64]
    still: NDArray[np.float64]
    rate: float
    came_off: NDArray[np.bool_]

    def figures(self) -> list[Figure]:
        """auroc, brier and ece, the same of persistence, and brier_skill: 1 less brier over the rate's."""
        squared = (self.probability - self.came_off) ** 2
        base = (self.rate - self.came_off) ** 2
        share = quotient("brier_skill", squared, base, np.arange(len(base)))
        return [
            *figures("", self.probability, self.came_off),
            mapped(share, share.name, lambda value: 1.0 - value),
            *figures("persistence.", self.still, self.came_off),
        ]


def margins(model: WorldModel, trials: Trials) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres (N,) by which the task's tolerance is met, negative where it is not: at best along the imagined
    chunk, and at its start."""
    cameras = model.manifest.cameras
    latents = np.stack(
        [
            model.encode({name: trials.images[name][row] for name in cameras}, proprio)
            for row, proprio in enumerate(trials.proprio)
        ]
    )
    now, path = model.ground(latents), model.ground(model.rollout(latents, trials.chunks))
    names = model.grounding_names
    ahead, still = np.empty(len(latents)), np.empty(len(latents))
    for row, task in enumerate(trials.tasks):
        ahead[row] = task.tolerance - gap(task, names, path[row]).min()
        still[row] = task.tolerance - gap(task, names, now[row])
    return ahead, still


def foresee(model: WorldModel, trials: Trials) -> Foreseen:
    """Every other trial says how margins become probabilities; the rest are judged.

    Raises ValueError when either outcome is missing among those that say how.
    """
    told = np.arange(len(trials.came_off)) % 2 == 0
    probabilities = [
        Platt.fit(margin[told], trials.came_off[told])(margin[~told]) for margin in margins(model, trials)
    ]
    rate = float(trials.came_off[told].mean())
    return Foreseen(probabilities[0], probabilities[1], rate, trials.came_off[~told])


def evaluate(
    world_models: Sequence[str],
    policy: str,
    tasks: Sequence[str] = tuple(TASKS),
    count: int = 300,
    progress: Progress = lambda share, note: None,
) -> tuple[Report, Draw]:
    """The report, and what draws it: figures `<family>.success_prediction.TASK.*`, of `count` trials each.

    Raises ModelRefused for a model, PolicyRefused for the policy, ValueError for unknown tasks.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(f"unknown tasks {unknown}; valid: {', '.join(TASKS)}")
    bench = judged.load_judged(world_models)
    robot = bench.simulated()
    names = (policy, *(f"{policy}@{fault}" for fault in FAULTS))
    loaded = [faulty_policy.load(name, robot) for name in names]
    cameras = {*bench.cameras.names, *(camera for _, looks in loaded for camera in looks)}
    seen = replace(bench.cameras, names=tuple(sorted(cameras)))
    out: list[Figure] = []
    found: dict[tuple[str, str], Foreseen] = {}
    for number, task in enumerate(tasks):
        mine = part(progress, number / len(tasks), (number + 1) / len(tasks))
        trials = _recorded(robot, seen, [policy for policy, _ in loaded], task, count, mine)
        for label, model in bench.models.items():
            found[label, task] = foresee(model, trials)
            prefix = f"{label}.success_prediction.{task}"
            out += judged.named(prefix, found[label, task].figures())
        some = found[next(iter(bench.models)), task]
        came, name = some.came_off, f"success_prediction.{task}"
        out.append(proportion(f"{name}.rate", int(came.sum()), len(came)))
        out.append(mean(f"{name}.brier_rate", (some.rate - came) ** 2, np.arange(len(came))))
    progress(1.0, "")
    circumstances = {
        **bench.conditions(),
        "policies": list(names),
        "trials": f"{count} of each task, every other one judged",
        "chunk": f"{loaded[0][0].chunk_size} ticks",
        **conditions(),
    }
    report = Report("eval success-prediction", circumstances, tuple(out))
    return report, lambda path: plot(found, path)


def _recorded(
    robot: RobotSpec, cameras: Cameras, policies: Sequence[Policy], task: str, count: int, progress: Progress
) -> Trials:
    def tell(done: int) -> None:
        progress(done / count, f"{task}: trial {done} of {count}")

    return record(robot, cameras, policies, task, count, tell)


def plot(found: Mapping[tuple[str, str], Foreseen], path: Path | BinaryIO) -> None:
    """A PNG with a reliability diagram per model and task; the dots' areas are the numbers of trials."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    labels = list(dict.fromkeys(label for label, _ in found))
    tasks = list(dict.fromkeys(task for _, task in found))
    canvas = Canvas(figsize=(4.4 * len(tasks), 4.0 * len(labels)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(labels), len(tasks), squeeze=False)
    for row, label in enumerate(labels):
        for column, task in enumerate(tasks):
            axes, own = panels[row, column], found[label, task]
            for name, probability in (("imagined", own.probability), ("seen now", own.still)):
                said, came, count = reliability(probability, own.came_off)
                axes.plot(said, came, "-", linewidth=0.8)
                axes.scatter(said, came, s=200.0 * count / count.sum(), label=name)
            axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
            axes.axhline(own.rate, color="grey", linestyle=":", linewidth=0.8)
            axes.set(xlabel="predicted", ylabel="came off", title=f"{label}: {task}", xlim=(0, 1))
            axes.legend()
    canvas.savefig(path, dpi=80, format="png")

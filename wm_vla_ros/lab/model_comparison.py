"""`wm-vla models compare`: world models side by side, from what they imagine to what they achieve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wm_vla_ros.judging import judged
from wm_vla_ros.judging.imagination_judge import imagine
from wm_vla_ros.judging.judged import Draw, Judged, Progress, part
from wm_vla_ros.lab.model_facts import size_mb, train_minutes
from wm_vla_ros.planning.calibration import time_ticks
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.recorded import time_plans
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.rig import closed_loop
from wm_vla_ros.rig.closed_loop import EvalSettings
from wm_vla_ros.rig.rig import RigConditions
from wm_vla_ros.tasks.task import TASKS
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.registry import find


@dataclass(frozen=True)
class Comparison:
    """How much to measure. tasks: of TASKS, each over `seeds` with the slow policy `policy`; may be empty.

    episodes, windows: of imagination, as in `wm-vla eval imagination`. plans: how many are timed, at the
    planner's own budget. data: a held-out data set, or None to record one.
    """

    policy: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    episodes: int = 12
    windows: int = 2000
    plans: int = 500
    workers: int = 2
    data: Path | None = None

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; valid: {', '.join(TASKS)}, or none")


def compare(
    world_models: Sequence[str], what: Comparison, progress: Progress = lambda share, note: None
) -> tuple[Report, Draw]:
    """The report, and what draws it: figures `<family>.imagination.*`, `<family>.plan.*`, `<family>.reach.*`.

    What cannot be measured of a model that is otherwise sound is null, and the condition `not_measured`
    says why. Raises ModelRefused for a model, ValueError when they do not fit side by side.
    """
    bench = judged.load_judged(world_models)
    missing: dict[str, str] = {}
    own: dict[str, list[Figure]] = {}
    for (label, model), name in zip(bench.models.items(), world_models, strict=True):
        progress(0.0, f"{label} plans")
        own[label] = [*_facts(name, label, missing), *_plans(model, bench, what.plans, label, missing)]
    imagining = 0.4 if what.tasks else 1.0
    seen = judged.record_or_load(bench, what.data, what.episodes, part(progress, 0.0, 0.4 * imagining))
    imagined = imagine(bench, seen, what.windows, what.episodes, part(progress, 0.4 * imagining, imagining))
    for label, (_, figures) in imagined.items():
        own[label] += figures
    jobs = [(label, name, task) for label, name in zip(own, world_models, strict=True) for task in what.tasks]
    for done, (label, name, task) in enumerate(jobs):
        share = imagining + (1.0 - imagining) * np.array([done, done + 1]) / len(jobs)
        if bench.robot is None:
            missing[f"{label}.{task}"] = "nothing here can simulate the robot of these recordings"
            own[label] += (Figure(f"{task}.success", math.nan, "", 0),)
            continue
        settings = EvalSettings(task, what.seeds, bench.robot.name, what.policy, name, RigConditions())
        own[label] += _succeeds(settings, what.workers, label, missing, part(progress, *map(float, share)))
    progress(1.0, "")
    figures = tuple(figure for label, mine in own.items() for figure in judged.named(label, mine))
    circumstances = {
        **bench.conditions(),
        "policy": what.policy,
        "seeds": f"{what.seeds[0]}..{what.seeds[-1]} ({len(what.seeds)})" if what.tasks else "none",
        "data": what.data.name if what.data else "recorded for this comparison, scenes never trained on",
        "episodes": seen.episodes,
        "budget": _budget(),
        "rig": asdict(RigConditions()),
        "not_measured": missing,
        **conditions(),
    }
    labels = tuple(own)
    return Report("models compare", circumstances, figures), lambda path: plot(labels, figures, what, path)


def side_by_side(report: Report) -> tuple[tuple[str, ...], list[tuple[str, list[Figure | None]]]]:
    """Labels, and every figure by name with one entry per label: None where a model has none."""
    labels = tuple(report.conditions["world_model"])
    rows: dict[str, list[Figure | None]] = {}
    for figure in report.figures:
        label = next(name for name in labels if figure.name.startswith(f"{name}."))
        row = rows.setdefault(figure.name.removeprefix(f"{label}."), [None] * len(labels))
        row[labels.index(label)] = figure
    return labels, list(rows.items())


def plot(labels: Sequence[str], figures: Sequence[Figure], what: Comparison, path: Path | BinaryIO) -> None:
    """A PNG: error over the horizon, success in closed loop, and the time of a plan."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(14, 4.4), layout="constrained")
    FigureCanvasAgg(canvas)
    errors, success, plans = canvas.subplots(1, 3)
    found = {figure.name: figure for figure in figures}
    for number, label in enumerate(labels):
        for kind, style in (("ratio", "o-"), ("ratio_linear", "--")):
            prefix = f"{label}.imagination.{kind}_"
            points = {
                int(name.removeprefix(prefix)): figure.value
                for name, figure in found.items()
                if name.startswith(prefix) and name.removeprefix(prefix).isdecimal()
            }
            errors.plot(*zip(*sorted(points.items()), strict=True), style, color=f"C{number}",
                        label=label if kind == "ratio" else None)  # fmt: skip
    errors.axhline(1.0, color="grey", linewidth=0.8)
    errors.set(xlabel="ticks ahead", yscale="log", title="latent error / persistence (dashed: linear)")
    errors.legend()
    width, places = 0.8 / len(labels), np.arange(len(what.tasks))
    for number, label in enumerate(labels):
        mine = [found[f"{label}.{task}.success"] for task in what.tasks]
        if mine:
            at = places + number * width
            success.bar(at, [float(figure.value) for figure in mine], width, label=label)
            for place, figure in zip(at, mine, strict=True):
                if figure.low is not None:
                    success.vlines(place, figure.low, figure.high, color="black")
        plans.bar(number, float(found[f"{label}.plan.p99_ms"].value), color=f"C{number}", alpha=0.5)
        plans.bar(number, float(found[f"{label}.plan.p50_ms"].value), color=f"C{number}")
    success.set(title="success in closed loop", ylim=(0, 1.02), xticks=places + 0.4 - width / 2)
    success.set_xticklabels(what.tasks)
    plans.set(title="a plan, ms: median and p99", xticks=range(len(labels)))
    plans.set_xticklabels(labels, rotation=15)
    canvas.savefig(path, dpi=80, format="png")


def _facts(name: str, label: str, missing: dict[str, str]) -> list[Figure]:
    folder = find(name)
    minutes = train_minutes(folder)
    if math.isnan(minutes):
        missing[f"{label}.train_minutes"] = "the model's report does not say how long it was trained"
    return [Figure("size_mb", size_mb(folder), "MB"), Figure("train_minutes", minutes, "min")]


def _plans(model: WorldModel, bench: Judged, plans: int, label: str, missing: dict[str, str]) -> list[Figure]:
    """ms of the search for a plan at the planner's own budget, as `wm-vla bench plan --runtime` times it."""
    try:
        if bench.robot is None:
            taken = time_plans(model, plans)
            missing[f"{label}.grounding"] = _ungrounded(model)
        else:
            taken = time_ticks(model, bench.robot, MpcConfig(), plans).searches
    except ModelRefused as error:
        missing[f"{label}.plan"] = str(error)
        return [Figure(f"plan.{name}_ms", math.nan, "ms", 0) for name in ("p50", "p99")]
    return [
        Figure("plan.p50_ms", float(np.median(taken)), "ms", len(taken)),
        Figure("plan.p99_ms", float(np.percentile(taken, 99)), "ms", len(taken)),
    ]


def _ungrounded(model: WorldModel) -> str:
    """What cannot be judged of a model of recorded actions, and what is."""
    names = ", ".join(model.grounding_names[:4]) + (", ..." if len(model.grounding_names) > 4 else "")
    return (
        f"no metres and no contact where no tip and no cube is grounded, but {names}; plans are towards a "
        "latent, within the recorded actions, and nobody has driven them"
    )


def _succeeds(
    settings: EvalSettings, workers: int, label: str, missing: dict[str, str], progress: Progress
) -> tuple[Figure, ...]:
    """Success and time of the whole loop, as `wm-vla eval tasks` measures them."""
    count = len(settings.seeds)
    try:
        report, _ = closed_loop.evaluate(
            settings,
            ("stack",),
            workers,
            lambda done: progress(done / count, f"{label}: {settings.task} {done} of {count}"),
        )
    except ModelRefused as error:
        missing[f"{label}.{settings.task}"] = str(error)
        return (Figure(f"{settings.task}.success", math.nan, "", 0),)
    return report.figures


def _budget() -> str:
    config = MpcConfig()
    size = config.sampler
    return f"{config.method}:{size.samples}x{size.iterations}x{size.horizon}"

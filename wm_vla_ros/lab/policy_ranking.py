"""How well a world model orders policies: what was measured of each of them, and rank correlations of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import mean
from wm_vla_ros.judging.head_judge import rank_correlation
from wm_vla_ros.report import Figure, proportion

_DRAWS = 1000


@dataclass(frozen=True)
class Evidence:
    """What was measured of K policies. values: task -> (K, n), the more the better; group: task -> (n,).

    What is of one group (a scene, an episode) is drawn together.
    """

    values: Mapping[str, NDArray[np.float64]]
    group: Mapping[str, NDArray[np.int64]]

    def of(self, task: str) -> Evidence:
        """Of one task alone."""
        return Evidence({task: self.values[task]}, {task: self.group[task]})

    def means(self) -> NDArray[np.float64]:
        """(K,) mean over tasks of the means."""
        return np.mean([values.mean(1) for values in self.values.values()], axis=0)

    def drawn(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """(K,) the same of groups that are drawn with replacement."""
        out = []
        for task, values in self.values.items():
            groups = [np.flatnonzero(self.group[task] == one) for one in np.unique(self.group[task])]
            kept = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
            out.append(values[:, kept].mean(1))
        return np.mean(out, axis=0)


def successes(wins: Mapping[str, NDArray[np.bool_]]) -> Evidence:
    """Evidence of task -> (K, scenes), whether each policy succeeded."""
    return Evidence(
        {task: own.astype(np.float64) for task, own in wins.items()},
        {task: np.arange(own.shape[1]) for task, own in wins.items()},
    )


def agreement(name: str, ours: Evidence, truth: Evidence) -> list[Figure]:
    """Spearman's correlation of `ours` with `truth` over policies, and of each task by itself (name_TASK).

    The 95 % interval draws policies, and on either side scenes or episodes, with replacement; a draw of
    equals has no order and is left out. Null where all policies are equals.
    """
    wanted = {name: (ours, truth)}
    if len(truth.values) > 1:
        wanted |= {f"{name}_{task}": (ours.of(task), truth.of(task)) for task in truth.values}
    out = []
    for label, (own, true) in wanted.items():
        count = len(true.means())
        drawn = []
        for number in range(_DRAWS):
            rng = np.random.default_rng([number, 9])
            kept = rng.integers(count, size=count)
            drawn.append(_spearman(own.drawn(rng)[kept], true.drawn(rng)[kept]))
        value = _spearman(own.means(), true.means())
        if np.isnan(value):
            out.append(Figure(label, value, "", 0))
            continue
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        out.append(Figure(label, value, "", count, float(low), float(high)))
    return out


@dataclass(frozen=True)
class Ranked:
    """Policies `names` as the simulator and world models see them.

    driven: success in the simulator. imagined: model's label -> success when driven in the model. covered:
    model's label -> share of the way left that chunks from held-out observations cover, imagined. action: a
    rival that needs no world model, less the error of those chunks against the demonstrator's actions.
    """

    names: tuple[str, ...]
    driven: Evidence
    imagined: Mapping[str, Evidence]
    covered: Mapping[str, Evidence]
    action: Evidence

    def figures(self) -> list[Figure]:
        """policy.NAME.TASK.success of the simulator, <family>.policy.NAME.TASK.success of the model.

        <family>.ranking.spearman: of success driven in the model with success in the simulator, means over
        tasks; spearman_open_loop: of `covered`; ranking.spearman_action_error: of `action`.
        <family>.ranking.off: mean absolute difference of the two successes.
        """
        out = list(self._successes("", self.driven))
        for label, imagined in self.imagined.items():
            out += self._successes(f"{label}.", imagined)
            out += agreement(f"{label}.ranking.spearman", imagined, self.driven)
            out += agreement(f"{label}.ranking.spearman_open_loop", self.covered[label], self.driven)
            off = np.abs(imagined.means() - self.driven.means())
            out.append(mean(f"{label}.ranking.off", off, np.arange(len(off))))
        return [*out, *agreement("ranking.spearman_action_error", self.action, self.driven)]

    def _successes(self, prefix: str, found: Evidence) -> list[Figure]:
        return [
            proportion(f"{prefix}policy.{name}.{task}.success", int(values[row].sum()), values.shape[1])
            for row, name in enumerate(self.names)
            for task, values in found.values.items()
        ]


def plot(ranked: Ranked, figures: Sequence[Figure], path: Path | BinaryIO) -> None:
    """A PNG with a panel per model: every policy's success when driven in it, over that in the simulator."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(1.0 + 4.6 * len(ranked.imagined), 4.6), layout="constrained")
    FigureCanvasAgg(canvas)
    values = {figure.name: float(figure.value) for figure in figures if figure.name.endswith("spearman")}
    panels = canvas.subplots(1, len(ranked.imagined), squeeze=False)[0]
    for axes, (label, imagined) in zip(panels, ranked.imagined.items(), strict=True):
        for name, x, y in zip(ranked.names, ranked.driven.means(), imagined.means(), strict=True):
            axes.plot(x, y, "o")
            text = name.rpartition("@")[2]
            axes.annotate(text, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        axes.set(
            xlabel="success in the simulator",
            ylabel="success in the world model",
            title=f"{label}: Spearman {values[f'{label}.ranking.spearman']:.2f}",
        )
    canvas.savefig(path, dpi=80, format="png")


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return np.nan if np.ptp(x) == 0.0 or np.ptp(y) == 0.0 else rank_correlation(x, y)

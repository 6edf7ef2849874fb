"""Success and task time over the slow policy's latency, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wm_vla_ros.baselines.delay_bench import Results, times, wins
from wm_vla_ros.baselines.delay_controllers import CONTESTANTS
from wm_vla_ros.report import mean_interval, wilson

# Half the width of a panel that has one value alone, in its unit.
_ALONE = 50.0
_LABELS = {
    "latency": ("latency of the slow policy, ms", 1e3),
    "delay": ("delay of the observations, ms", 1e3),
    "jitter": ("jitter of the observations, ms", 1e3),
    "drop": ("frames lost, %", 1e2),
}


def plot_delay(path: Path, results: Results) -> None:
    """A PNG with a column per task and swept axis: success above, task time below, a line per contestant."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys((cell.axis, cell.task) for cell in results if cell.axis in _LABELS))
    if not columns:
        return
    figure = Figure(figsize=(1.5 + 3.4 * len(columns), 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(columns), squeeze=False, sharex="col")
    names = [name for name in CONTESTANTS if any(cell.contestant == name for cell in results)]
    for column, (axis, task) in enumerate(columns):
        label, unit = _LABELS[axis]
        for i, name in enumerate(names):
            cells = sorted(
                (c for c in results if (c.axis, c.task, c.contestant) == (axis, task, name)),
                key=lambda cell: cell.value,
            )
            # Side by side, or equal curves hide each other's intervals.
            span = max((cell.value for cell in cells), default=0.0) * unit
            x = np.array([cell.value for cell in cells]) * unit + (i - len(names) / 2) * 0.004 * span
            ours = name.startswith("ours")
            style = {
                "color": colormaps["tab10"](CONTESTANTS.index(name) % 10),
                "linestyle": "--" if ours and name != "ours" else "-",
                "linewidth": 2.4 if name == "ours" else 1.2,
                "zorder": 3 if name == "ours" else 2,
            }
            for row, (value, low, high) in enumerate(_curves([results[cell] for cell in cells])):
                panels[row, column].plot(x, value, marker="o", markersize=3, label=name, **style)
                panels[row, column].fill_between(x, low, high, alpha=0.07, color=style["color"], linewidth=0)
        panels[0, column].set_title(task, fontsize=10)
        panels[0, column].set_ylim(-0.03, 1.03)
        panels[1, column].set_ylim(bottom=0.0)
        panels[1, column].set_xlabel(label, fontsize=8)
        values = {cell.value * unit for cell in results if (cell.axis, cell.task) == (axis, task)}
        if len(values) == 1:  # an axis of its own accord would be a hair wide
            panels[1, column].set_xlim(min(values) - _ALONE, max(values) + _ALONE)
        for panel in panels[:, column]:
            panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("success")
    panels[1, 0].set_ylabel("task time, s (a failure counts whole)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _curves(cells: list) -> list[tuple[list[float], list[float], list[float]]]:
    """(value, low, high) of success and of time, one entry per cell."""
    success: tuple[list[float], list[float], list[float]] = ([], [], [])
    time: tuple[list[float], list[float], list[float]] = ([], [], [])
    for episodes in cells:
        won = wins(episodes)
        for values, value in zip(
            success, (float(won.mean()), *wilson(int(won.sum()), len(won))), strict=True
        ):
            values.append(value)
        mean = mean_interval("time", times(episodes).tolist())
        found = float(mean.value)
        low, high = (found if bound is None else float(bound) for bound in (mean.low, mean.high))
        for values, value in zip(time, (found, max(0.0, low), high), strict=True):
            values.append(value)
    return [success, time]

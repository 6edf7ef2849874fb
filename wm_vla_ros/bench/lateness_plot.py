"""How late ticks are under several conditions, as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.bench.loop_conditions import SCHEDULINGS, LoopCondition
from wm_vla_ros.plotting import canvas
from wm_vla_ros.recording import LATE_SHARE

# ms: below it nothing is worth telling apart.
_LEAST = 0.02


def exceedance(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted values (n,) and the share (n,) of all values that are at least as large as each."""
    ordered = np.sort(values)
    return ordered, 1.0 - np.arange(len(ordered)) / len(ordered)


def plot_lateness(path: Path, runs: Mapping[LoopCondition, NDArray[np.float64]]) -> None:
    """A PNG: one panel per rate and scheduling, one line per number of hogs. runs: (n,) ms late, each tick.

    A line shows the share of ticks that were later than the value below it.
    """
    rates = sorted({condition.rate for condition in runs})
    kinds = [kind for kind in SCHEDULINGS if any(condition.scheduling == kind for condition in runs)]
    counts = sorted({condition.hogs for condition in runs})
    most = max(float(late.max(initial=1.0)) for late in runs.values())
    fewest = min(1.0 / max(1, len(late)) for late in runs.values())
    size = 1.5 + 3.6 * len(rates), 1.0 + 3.0 * len(kinds)
    with canvas(path, *size, dpi=110) as figure:
        panels = figure.subplots(len(kinds), len(rates), sharex=True, sharey=True, squeeze=False)
        for row, kind in enumerate(kinds):
            for column, rate in enumerate(rates):
                panel = panels[row, column]
                for colour, count in enumerate(counts):
                    late = runs.get(LoopCondition(rate, count, kind))
                    if late is None or not len(late):
                        continue
                    at, share = exceedance(np.maximum(late, _LEAST))
                    label = "no hog" if count == 0 else f"{count} hog" + "s" * (count > 1)
                    panel.step(at, share, where="pre", label=label, color=f"C{colour}", linewidth=1.4)
                bound = LATE_SHARE * 1e3 / rate
                panel.axvline(bound, color="0.4", linewidth=0.9, linestyle="--")
                panel.set(xscale="log", yscale="log", xlim=(_LEAST, 1.3 * most), ylim=(0.8 * fewest, 1.2))
                panel.set_title(f"{rate} Hz, SCHED_{kind.upper()}; late from {bound:g} ms", fontsize=9)
                panel.grid(alpha=0.3)
                if panel.lines[:-1]:  # the last is the bound
                    panel.legend(fontsize=8, loc="lower left")
        for panel in panels[-1]:
            panel.set_xlabel("tick starts late by more than, ms", fontsize=8)
        for panel in panels[:, 0]:
            panel.set_ylabel("share of ticks", fontsize=8)

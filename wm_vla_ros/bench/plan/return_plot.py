"""Return over time, one point per planner: the picture of `wm-vla bench plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wm_vla_ros.plotting import canvas
from wm_vla_ros.report import Figure

_TICK_MS = 20.0


def plot_plans(path: Path, figures: Sequence[Figure]) -> None:
    """A PNG of `figures` as `bench.run` gives them: p50 against mean return, with its 95 % interval."""
    by_name = {figure.name: figure for figure in figures}
    points = {
        "textbook CEM": ("plan.textbook.p50_ms", "plan.return_textbook"),
        "textbook CEM, batched": ("plan.textbook_batched.p50_ms", "plan.return_textbook"),
        "TD-MPC2": ("plan.tdmpc2.p50_ms", "plan.return_tdmpc2"),
    }
    for name in by_name:
        if name.endswith(".return") and name != "plan.return":
            label = name.removeprefix("plan.").removesuffix(".return")
            points[label] = (f"plan.{label}.p50_ms", name)
    with canvas(path, 9, 6, dpi=120) as drawn:
        panel = drawn.subplots()
        for label, (time, worth) in points.items():
            at, value = by_name[time].value, by_name[worth]
            error = [[value.value - value.low], [value.high - value.value]] if value.low is not None else None
            ours = label[0].islower() and not label.startswith("textbook")
            panel.errorbar(
                at, value.value, yerr=error, fmt="o" if ours else "s", color="C0" if ours else "C3", capsize=3
            )
            panel.annotate(label, (at, value.value), xytext=(6, 4), textcoords="offset points", fontsize=8)
        panel.axvline(_TICK_MS, color="0.5", linestyle="--", linewidth=0.8)
        panel.text(_TICK_MS, panel.get_ylim()[0], " one tick", fontsize=8, color="0.4", va="bottom")
        panel.set_xscale("log")
        panel.set_xlabel("one plan, ms (median, one thread)")
        panel.set_ylabel("return of the moving-target task")
        panel.grid(alpha=0.3)

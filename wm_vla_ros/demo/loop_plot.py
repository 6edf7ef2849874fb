"""Loop statistics as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wm_vla_ros.plotting import canvas
from wm_vla_ros.recording import Recording, TimeSpan, between

# One panel per number of a tick: attribute, label, and the bound that a reader wants to see.
_PANELS = (
    ("lateness_ms", "tick starts late, ms", 4.0),
    ("plan_ms", "planning, ms", 20.0),
    ("observation_age_ms", "age of the newest image, ms", None),
    ("prediction_error", "tip predicted against measured, m", None),
)


def plot_loop(
    path: Path, recording: Recording, span: TimeSpan, instructions: Sequence[tuple[str, TimeSpan]]
) -> None:
    """A PNG with one panel per statistic over `span`; instructions: (text, when), shaded."""
    stats = between(recording.stats, span.start, span.end)
    seconds = np.array([item.stamp - span.start for item in stats])
    planned = np.array([item.iterations > 0 for item in stats])
    with canvas(path, 10, 8, dpi=110) as figure:
        panels = figure.subplots(len(_PANELS), 1, sharex=True)
        for panel, (name, label, bound) in zip(panels, _PANELS, strict=True):
            values = np.array([getattr(item, name) for item in stats], dtype=float)
            panel.plot(seconds, np.where(planned | (name == "lateness_ms"), values, np.nan), linewidth=0.8)
            if bound is not None:
                panel.axhline(bound, color="tab:red", linewidth=0.8, linestyle="--")
            for _, when in instructions:
                panel.axvspan(when.start - span.start, when.end - span.start, alpha=0.12)
            panel.set_ylabel(label, fontsize=8)
            panel.set_ylim(bottom=0.0)
            panel.grid(alpha=0.3)
        for text, when in instructions:
            at = (when.start - span.start, 1.02)
            panels[0].annotate(text, at, xycoords=("data", "axes fraction"), fontsize=8)
        panels[-1].set_xlabel("s")

"""The pendulum lab as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wm_vla_ros.lab.dreams import LONGEST, Judged
from wm_vla_ros.lab.episodes import OBSERVATION_NAMES, Episodes, Floats, angle

_SHOWN = 100
_RODS = 11
_TRUE, _DREAM, _CHANCE = "0.25", "tab:blue", "tab:orange"


def plot(
    path: Path, collected: Floats, random: int, agent: Episodes, chance: Episodes, judged: Judged
) -> None:
    """A PNG: reconstructions, one dream beside what came, its error over time, and the agent.

    collected: returns of the real episodes, the first `random` of them of random actions. judged: of the
    random player's episodes, then the agent's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(4, 2, height_ratios=[1, 0.55, 1, 1])
    _reconstruction(figure.add_subplot(grid[0, 0]), chance, judged)
    number = _typical(judged)
    _dream(figure.add_subplot(grid[0, 1]), judged, number)
    _rods(figure.add_subplot(grid[1, :]), judged, number)
    _error(figure.add_subplot(grid[2, 0]), judged)
    _learning(figure.add_subplot(grid[2, 1]), collected, random, agent, chance)
    for cell, episodes, text in ((grid[3, 0], chance, "random actions"), (grid[3, 1], agent, "the agent")):
        _angles(figure.add_subplot(cell), episodes, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)


def _typical(judged: Judged) -> int:
    """Among dreams of a swinging pendulum one that holds for the median time: neither best nor worst."""
    swings = np.flatnonzero(np.ptp(judged.truth[..., 0], axis=1) > 1.0)
    candidates = swings if len(swings) else np.arange(len(judged.truth))
    order = candidates[np.argsort(judged.lost[candidates], kind="stable")]
    return int(order[len(order) // 2])


def _reconstruction(panel: Any, chance: Episodes, judged: Judged) -> None:
    for entry, name in enumerate(OBSERVATION_NAMES):
        true, again = (
            path[0, :_SHOWN, entry] / judged.spread[entry]
            for path in (chance.observations, judged.reconstructed)
        )
        panel.plot(true, color=_TRUE, linewidth=3, alpha=0.4)
        panel.plot(again, linewidth=1, label=name)
    panel.set(title="reconstruction (grey: what was seen), in standard deviations", xlabel="steps of 0.05 s")
    panel.legend(fontsize=7, loc="upper right")


def _dream(panel: Any, judged: Judged, number: int) -> None:
    steps = np.arange(1, LONGEST + 1)
    panel.plot(
        steps, _unbroken(angle(judged.truth[number])), color=_TRUE, linewidth=3, alpha=0.5, label="true"
    )
    panel.plot(steps, _unbroken(angle(judged.dreamed[number])), color=_DREAM, linewidth=1.2, label="dreamed")
    lost = judged.lost[number]
    if lost < LONGEST:
        panel.axvline(lost + 1, color="tab:red", linestyle="--", linewidth=1, label="diverges")
    panel.set(title="a dream from the prior alone: angle, rad", xlabel="steps ahead", ylim=(-3.3, 3.3))
    panel.legend(fontsize=7, loc="upper right")


def _unbroken(angles: Floats) -> Floats:
    """Without the lines from pi to -pi, which are no motion."""
    return np.where(np.abs(np.diff(angles, prepend=angles[0])) > np.pi, np.nan, angles)


def _rods(panel: Any, judged: Judged, number: int) -> None:
    """The same dream as pendulums side by side."""
    for place, ahead in enumerate(np.linspace(0, LONGEST - 1, _RODS).astype(int)):
        for path, colour, width in ((judged.truth, _TRUE, 4), (judged.dreamed, _DREAM, 1.5)):
            cos, sin, _ = path[number, ahead]
            x = 2.6 * place
            panel.plot([x, x - sin], [0, cos], color=colour, linewidth=width, solid_capstyle="round")
        panel.annotate(f"{ahead + 1}", (2.6 * place, -1.45), ha="center", fontsize=7)
    panel.set(
        xlim=(-1.6, 2.6 * _RODS - 1), ylim=(-1.6, 1.2), title="the same dream: true (grey) and dreamed (blue)"
    )
    panel.set_aspect("equal")
    panel.axis("off")


def _error(panel: Any, judged: Judged) -> None:
    steps = np.arange(1, LONGEST + 1)
    panel.plot(steps, judged.error, color=_DREAM, label="dream")
    panel.plot(steps, judged.persistence, color=_CHANCE, label="nothing moves")
    panel.axhline(1.0, color=_TRUE, linestyle=":", linewidth=1, label="the mean")
    panel.axvline(judged.horizon, color="tab:red", linestyle="--", linewidth=1, label="horizon")
    panel.set(title="squared error / variance, all dreams", xlabel="steps ahead", yscale="log")
    panel.legend(fontsize=7)


def _learning(panel: Any, collected: Floats, random: int, agent: Episodes, chance: Episodes) -> None:
    numbers = np.arange(1, len(collected) + 1)
    panel.plot(numbers[:random], collected[:random], "o", color=_CHANCE, label="random actions")
    panel.plot(numbers[random:], collected[random:], "o", color=_DREAM, label="agent, exploring")
    panel.axhline(agent.returns.mean(), color=_DREAM, label="agent, 20 new starts")
    panel.axhline(chance.returns.mean(), color=_CHANCE, label="random, the same starts")
    panel.set(title="return of the real episodes", xlabel="episode")
    panel.legend(fontsize=7)


def _angles(panel: Any, episodes: Episodes, text: str) -> None:
    for angles in episodes.angles:
        panel.plot(_unbroken(angles), linewidth=0.8, alpha=0.7)
    panel.set(title=f"angle from upright, rad: {text}", xlabel="steps of 0.05 s", ylim=(-3.3, 3.3))

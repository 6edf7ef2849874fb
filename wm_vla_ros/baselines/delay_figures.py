"""The figures of `wm-vla bench delay`, from its episodes. A figure whose cells were not run is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.baselines.delay_bench import (
    BASE_LATENCY,
    TASKS,
    Calibration,
    Cell,
    DelaySettings,
    Results,
    times,
    wins,
)
from wm_vla_ros.report import Figure, conditions, mean_interval, proportion

Array = NDArray[np.float64]
# The tasks whose worst counts, and the latency at which it is looked at, seconds.
_JUDGED, _LATE = ("reach", "push", "moving"), 0.3
# Observation delays that `recovered_obs` is about: 1 to 6 control ticks, seconds.
_TICKS = tuple(round(0.02 * tick, 3) for tick in range(1, 7))
# A loss below this is rounding, seconds.
_NOTHING = 1e-6
_RESAMPLES = 2000


def figures(results: Results) -> tuple[Figure, ...]:
    """The named figures first, then success and time of every cell."""
    contestants = list(dict.fromkeys(cell.contestant for cell in results))
    found = recovered(results)
    found += [success_drop(results, name) for name in contestants]
    found += [drift_success(results, "ours", ""), drift_success(results, "sync", "_policy_alone")]
    found += time_ratios(results)
    for name in contestants:
        found += _motion(results, name)
    for cell, episodes in results.items():
        ending = f"{cell.task}.{cell.contestant}.{cell.label}"
        won = wins(episodes)
        found.append(proportion(f"delay.success.{ending}", int(won.sum()), len(won)))
        found.append(mean_interval(f"delay.time.{ending}", times(episodes).tolist(), "s"))
    return tuple(figure for figure in found if figure is not None)


def recovered(results: Results) -> list[Figure | None]:
    """Share of the return lost to 1..6 ticks of observation delay that comes back with prediction.

    Return: negative mean task time, a failure counting with the time limit. Lost, with and without
    prediction: the return at no delay less the one at 1..6 ticks, summed over the delays that were run, each
    against its own return at no delay. 1 - lost with / lost without; null when nothing is lost without. The
    worst task, then each, with what is lost per delay in seconds.
    """
    tasks = list(dict.fromkeys(cell.task for cell in results if cell.axis == "delay"))
    found = [figures for task in tasks if (figures := _recovered_on(results, task))]
    if not found:
        return []
    shares = [figures[0] for figures in found]
    measured = [share for share in shares if np.isfinite(float(share.value))]
    worst = min(measured or shares, key=lambda share: float(share.value))
    return [_named("delay.recovered_obs", worst), *(each for group in found for each in group)]


def _recovered_on(results: Results, task: str) -> list[Figure]:
    def at(name: str, delay: float) -> Array | None:
        episodes = results.get(Cell(task, name, "delay", delay))
        return None if episodes is None else times(episodes)

    lost, counted = [], 1
    for name in ("ours", "ours_no_prediction"):
        calm = at(name, 0.0)
        late = [value for tick in _TICKS if (value := at(name, tick)) is not None]
        if calm is None or not late:
            return []
        counted = len(late)
        lost.append(np.sum([value - calm for value in late], axis=0))

    def share(picks: NDArray[np.int64]) -> float:
        with_it, without = lost[0][picks].sum(), lost[1][picks].sum()
        return float(1.0 - with_it / without) if without > _NOTHING else float("nan")

    return [
        _bootstrap(f"delay.recovered_obs.{task}", len(lost[0]), share),
        mean_interval(f"delay.lost_obs.{task}", (lost[0] / counted).tolist(), "s"),
        mean_interval(f"delay.lost_obs_no_prediction.{task}", (lost[1] / counted).tolist(), "s"),
    ]


def success_drop(results: Results, name: str) -> Figure | None:
    """Success at 0 ms less success at 300 ms, of the task of reach, push and moving that loses most."""
    drops = []
    for task in _JUDGED:
        pair = [results.get(Cell(task, name, "latency", latency)) for latency in (0.0, _LATE)]
        if pair[0] and pair[1]:
            drops.append(wins(pair[0]) - wins(pair[1]))
    if not drops:
        return None
    worst = max(drops, key=lambda drop: float(drop.mean()))
    ending = "" if name == "ours" else f"_{name}"
    return _bootstrap(
        f"delay.success_drop_300ms{ending}", len(worst), lambda picks: float(worst[picks].mean())
    )


def drift_success(results: Results, name: str, ending: str) -> Figure | None:
    """Success of a reach under drift at 300 ms."""
    episodes = results.get(Cell("drift", name, "latency", _LATE))
    if not episodes:
        return None
    return proportion(f"delay.drift_success{ending}", int(wins(episodes).sum()), len(episodes))


def time_ratios(results: Results) -> list[Figure | None]:
    """Task time of ours over that of sync at the policy's own latency: per task, and the worst of them."""
    ratios = []
    for cell, episodes in results.items():
        if cell.axis == "own" and cell.contestant == "ours":
            ours = times(episodes)
            sync = times(results[Cell(cell.task, "sync", "own", cell.value)])
            ratios.append(_ratio(f"delay.time_ratio_async_sync.{cell.task}", ours, sync))
    if not ratios:
        return []
    worst = max(ratios, key=lambda figure: float(figure.value))
    return [_named("delay.time_ratio_async_sync", worst), *ratios]


def described(settings: DelaySettings, calibration: Calibration) -> dict[str, Any]:
    """What the figures depend on, and what has to be known to read them."""
    return {
        "loop": "in-process, virtual time, deployed cores",
        "seeds": f"{settings.seeds[0]}..{settings.seeds[-1]} ({len(settings.seeds)})",
        "policy": settings.policy,
        "world_model": settings.world_model,
        "policy_latency_ms": round(calibration.policy_latency * 1e3, 2),
        "tasks": {task: {"instruction": name, **fields} for task, (name, fields) in TASKS.items()},
        "observation_sweeps": f"{', '.join(settings.observation_tasks)}; VLA {BASE_LATENCY * 1e3:g} ms",
        "rtc": "prefix mask of LeRobot's RTCProcessor as a blend: the policy is a regression, with no "
        "denoising to guide; exponential schedule, frozen d, soft up to chunk - max(d, 1)",
        "asynchronous_baselines": "merge absolute positions of the commanded tip, as the published systems' "
        "actions are; rows numbered by executed actions; at most 0.45 m/s, as ours, and 5 m/s^2 (ours 2.5)",
        "return": "negative mean task time, failures at the time limit",
        "seam_velocity_jump": f"commanded tip velocity after the gate, at {_LATE * 1e3:g} ms, all but drift",
        "path_jerk": "RMS of the measured tip's jerk per episode, likewise",
        **conditions(),
    }


def _motion(results: Results, name: str) -> list[Figure]:
    late = [
        episode
        for cell, episodes in results.items()
        if cell.contestant == name and cell.task in _JUDGED and (cell.axis, cell.value) == ("latency", _LATE)
        for episode in episodes
    ]
    if not late:
        return []
    ending = "" if name == "ours" else f"_{name}"
    jumps = [jump for episode in late for jump in episode.seam_jumps]
    within = [episode.smooth_change for episode in late if np.isfinite(episode.smooth_change)]
    jerks = [episode.jerk for episode in late if np.isfinite(episode.jerk)]
    return [
        mean_interval(f"delay.seam_velocity_jump{ending}", jumps, "m/s"),
        mean_interval(f"delay.velocity_change_within{ending}", within, "m/s"),
        mean_interval(f"delay.path_jerk{ending}", jerks, "m/s^3"),
    ]


def _ratio(name: str, ours: Array, sync: Array) -> Figure:
    return _bootstrap(name, len(ours), lambda picks: float(ours[picks].sum() / sync[picks].sum()))


def _bootstrap(name: str, n: int, value: Callable[[NDArray[np.int64]], float]) -> Figure:
    """value(picked seeds) over all of them, with a 95 % interval from resampling the seeds, kept in pairs."""
    rng = np.random.default_rng(0)
    drawn = np.array([value(rng.integers(n, size=n)) for _ in range(_RESAMPLES)])
    whole = value(np.arange(n))
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(whole) or n == 1 or not len(drawn):
        return Figure(name, whole, "", n)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(name, whole, "", n, float(low), float(high))


def _named(name: str, figure: Figure) -> Figure:
    return replace(figure, name=name)

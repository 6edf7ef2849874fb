"""What was seen of a running stack, and the figures that follow from it. Pure data; times in seconds.

How the figures are defined:
- loop.rate_hz: ticks that the fast loop did, over the whole time.
- loop.late_ratio: ticks that began more than a fifth of a period after their deadline, or were left out
  altogether, over all ticks that were due.
- loop.lateness_max_ms: as lateness_p99_ms, but ticks that were left out count up to the next that began.
- loop.gap_max_ms: longest time between the beginnings of two ticks that followed each other.
- loop.missed_actions: ticks of the driver, while an instruction was being followed, in which no action of a
  plan was in force. An instruction is followed from the first action towards its first goal to its end.
- loop.missed_in_stalls: those of them that fell into a time in which a core of the machine ran nothing at
  all, not even a thread that only sleeps and was not waiting for its turn. No program can act while its
  machine stands still; they count as missed all the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import Clock
from wm_vla_ros.report import Figure, percentiles
from wm_vla_ros.types import AppliedAction, Fault, LoopStats, Plan

LATE_SHARE = 0.2
# Ticks within which a plan that is still in force has been seen.
_REMAINDER = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """The simulated world at `stamp`. joints: (n,) rad. poses: (3, 7) of the cubes, as in SimWorld."""

    stamp: float
    joints: NDArray[np.float64]
    poses: NDArray[np.float64]


@dataclass(slots=True)
class Recording:
    """Everything in the order of arrival. Lists are only appended to, by one thread."""

    stats: list[LoopStats] = field(default_factory=list)
    applied: list[AppliedAction] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A stretch of time from `start` to `end`; of an instruction: from its first goal to its end."""

    start: float
    end: float


def between[T: (LoopStats, AppliedAction, Moment, Fault)](
    items: Sequence[T], start: float, end: float
) -> list[T]:
    """The items whose stamp lies in [start, end]; items are in the order of their stamps."""
    low = bisect_left(items, start, key=lambda item: item.stamp)
    return list(items[low : bisect_right(items, end, key=lambda item: item.stamp)])


def loop_figures(
    recording: Recording,
    span: TimeSpan,
    instructions: Sequence[TimeSpan],
    dt: float,
    stalls: Sequence[TimeSpan] = (),
    period: float | None = None,
) -> tuple[Figure, ...]:
    """The fast loop's figures over `span`, which holds the `instructions`. dt: control period, s.

    stalls: when the machine stood still. period: of the fast loop, s, where it is not the control period.

    Raises ValueError when the fast loop or the driver was not heard of at all.
    """
    period = period or dt
    stats = between(recording.stats, span.start, span.end)
    applied = between(recording.applied, span.start, span.end)
    if not stats or not applied:
        silent = "the fast loop" if not stats else "the driver"
        raise ValueError(f"nothing was heard of {silent} in {span.end - span.start:.1f} s")
    seconds = span.end - span.start
    ticks = stats[-1].tick - stats[0].tick + 1
    missed = stats[-1].missed_ticks - stats[0].missed_ticks
    lateness = np.array([item.lateness_ms for item in stats])
    late_share = float(np.mean(lateness > LATE_SHARE * period * 1e3))
    plans = np.array([item.plan_ms for item in stats if item.iterations > 0])
    ages = np.array([item.observation_age_ms for item in stats if item.iterations > 0])
    periods = np.diff([item.stamp for item in applied]) * 1e3
    followed = [each for item in instructions if (each := _followed(applied, item)) is not None]
    due = round(sum(item.end - item.start for item in followed) / dt)
    figures = [
        Figure("loop.rate_hz", ticks / seconds, "Hz", ticks),
        Figure("loop.late_ratio", (late_share * ticks + missed) / (ticks + missed), "", ticks + missed),
        Figure("loop.missed_ticks", missed, "", ticks + missed),
        percentiles("loop.lateness_", lateness)[1],
        Figure("loop.lateness_max_ms", float(tick_lateness(stats, period).max()), "ms", ticks + missed),
        Figure("loop.gap_max_ms", _longest_gap(stats), "ms", len(stats)),
        Figure("loop.missed_actions", sum(_missed_actions(applied, item, dt) for item in followed), "", due),
        Figure(
            "loop.missed_in_stalls",
            sum(_missed_in_stalls(applied, item, dt, stalls) for item in followed),
            "",
            len(stalls),
        ),
        *percentiles("plan.", plans),
        *percentiles("observation.age_", ages),
        Figure("driver.rate_hz", len(applied) / seconds, "Hz", len(applied)),
        percentiles("driver.period_", periods)[1],
    ]
    return tuple(figures)


def tick_lateness(stats: Sequence[LoopStats], period: float) -> NDArray[np.float64]:
    """ms that each tick was late, those that were left out included: they wait for the next that began.

    stats: at least one. period: s.
    """
    late = [item.lateness_ms for item in stats]
    for before, after in pairwise(stats):
        missed = after.missed_ticks - before.missed_ticks
        late += [after.lateness_ms + 1e3 * period * (count + 1) for count in range(missed)]
    return np.array(late)


def held_rate(figures: Sequence[Figure], least: float) -> bool:
    """Whether both the fast loop and the driver kept at least `least` Hz."""
    rates = {figure.name: figure.value for figure in figures}
    return min(float(rates["loop.rate_hz"]), float(rates["driver.rate_hz"])) >= least


def _followed(applied: Sequence[AppliedAction], instruction: TimeSpan) -> TimeSpan | None:
    """From the first action of a plan that was made since its start, or None when there was none."""
    inside = between(applied, instruction.start, instruction.end)
    before = [item.sequence for item in between(applied, applied[0].stamp, instruction.start)]
    # What is left of a plan of the instruction before is executed after its end.
    newest = max(before[-_REMAINDER:], default=-1)
    for item in inside:
        if item.sequence > newest:
            return TimeSpan(item.stamp, instruction.end)
    return None


def wait_for_the_end(recording: Recording, end: float, clock: Clock, patience: float = 5.0) -> None:
    """Return when the recording reaches to `end`: a busy recorder may be seconds behind. patience: s."""
    deadline = clock.now() + patience
    while clock.now() < deadline:
        if (
            recording.stats
            and recording.applied
            and min(recording.stats[-1].stamp, recording.applied[-1].stamp) >= end
        ):
            return
        clock.sleep_until(clock.now() + 0.02)


def _missed_actions(applied: Sequence[AppliedAction], span: TimeSpan, dt: float) -> int:
    """Ticks that were due in `span` less those that executed an action of a plan."""
    inside = between(applied, span.start, span.end)
    if not inside:
        return 0
    due = round((inside[-1].stamp - inside[0].stamp) / dt) + 1
    return max(0, due - sum(item.sequence >= 0 for item in inside))


def _missed_in_stalls(
    applied: Sequence[AppliedAction], span: TimeSpan, dt: float, stalls: Sequence[TimeSpan]
) -> int:
    """Those of the missed ticks of `span` that lie between two actions with a stall in between."""
    executed = [item.stamp for item in between(applied, span.start, span.end) if item.sequence >= 0]
    lost = 0
    for before, after in pairwise(executed):
        if any(stall.start < after and stall.end > before for stall in stalls):
            lost += round((after - before) / dt) - 1
    return min(lost, _missed_actions(applied, span, dt))


def _longest_gap(stats: Sequence[LoopStats]) -> float:
    """Over ticks with adjacent numbers, in ms: statistics that were lost on the way are no gap."""
    gaps = [after.stamp - before.stamp for before, after in pairwise(stats) if after.tick == before.tick + 1]
    return 1e3 * max(gaps, default=float("nan"))

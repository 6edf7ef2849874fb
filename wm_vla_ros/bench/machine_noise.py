"""How well this machine keeps time on its own, measured beside whatever runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from wm_vla_ros.bench.child_processes import children
from wm_vla_ros.recording import LATE_SHARE, TimeSpan
from wm_vla_ros.report import Figure

_PERIOD_MS = 20.0
_PATIENCE = 20.0
_TIMER, _CORE = "wm_vla_ros.bench.timer_baseline", "wm_vla_ros.bench.steal_monitor"


@dataclass(slots=True)
class Noise:
    """late: kind of watcher -> ms it was late, each time. stalls: when a core ran nothing, s, monotonic."""

    late: dict[str, list[float]] = field(default_factory=dict)
    stalls: list[TimeSpan] = field(default_factory=list)

    def figures(self, name: str) -> list[Figure]:
        """How late, as figures `baseline.{name}_{kind}_…`."""
        figures = []
        for kind, values in self.late.items():
            late = np.array(values)
            share = float(np.mean(late > LATE_SHARE * _PERIOD_MS))
            figures += [
                Figure(f"baseline.{name}_{kind}_p99_ms", float(np.percentile(late, 99)), "ms", len(late)),
                Figure(f"baseline.{name}_{kind}_max_ms", float(late.max()), "ms", len(late)),
                Figure(f"baseline.{name}_{kind}_late_ratio", share, "", len(late)),
            ]
        return figures


@contextmanager
def machine_watched() -> Iterator[Noise]:
    """Watch the timer and every core while the block runs; the Noise is filled when it ends."""
    noise = Noise()
    cores = sorted(os.sched_getaffinity(0))
    commands = [(_TIMER,), *((_CORE, str(core)) for core in cores)]
    with children(commands, "watching") as watchers:
        yield noise
        for process in watchers:
            process.terminate()
        for kind, process in zip(["timer", *["core"] * len(cores)], watchers, strict=True):
            seen = json.loads(process.communicate(timeout=_PATIENCE)[0])
            noise.late.setdefault(kind, []).extend(seen["late_ms"])
            noise.stalls.extend(TimeSpan(begin, end) for begin, end in seen["stalls"])
        noise.stalls.sort(key=lambda stall: stall.start)

"""The conditions that `wm-vla bench loop` runs under: planning rate, CPU hogs beside it, scheduling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from wm_vla_ros.bench.cpu_load import MOST
from wm_vla_ros.planning.cadence import valid_rates
from wm_vla_ros.report import Figure

FIFO, OTHER = "fifo", "other"
SCHEDULINGS = (FIFO, OTHER)


@dataclass(frozen=True, slots=True)
class LoopCondition:
    """rate: plans per second. hogs: processes that burn a core each. scheduling: of SCHEDULINGS."""

    rate: int
    hogs: int = 0
    scheduling: str = FIFO

    @property
    def name(self) -> str:
        """All of it in one word, "50hz.hogs0.fifo"."""
        return f"{self.rate}hz.hogs{self.hogs}.{self.scheduling}"

    def suffix(self, control_rate: int) -> str:
        """What its figures' names end with: rate, hogs, scheduling, each only where it is not the usual one.

        The usual one is one plan per control tick (control_rate, Hz), no hogs, SCHED_FIFO; its suffix is
        empty.
        """
        parts = (
            f".{self.rate}hz" if self.rate != control_rate else "",
            f".hogs{self.hogs}" if self.hogs else "",
            f".{self.scheduling}" if self.scheduling != FIFO else "",
        )
        return "".join(parts)

    def choices(self) -> dict[str, float | bool]:
        """The stack's arguments that bring it about; the hogs are none of the stack's."""
        return {"rate": float(self.rate), "realtime": self.scheduling == FIFO}


def parse_conditions(rates: str, hogs: str, scheduling: str, control_dt: float) -> tuple[LoopCondition, ...]:
    """Every combination of three comma-separated lists, rates outermost; empty text is the usual one.

    control_dt: s. Raises ValueError naming the value that is not valid, and those that are.
    """
    known = valid_rates(control_dt)
    chosen = (
        _listed("--rates", rates or str(known[0]), [str(rate) for rate in known]),
        _listed("--hogs", hogs or "0", [str(count) for count in range(MOST + 1)]),
        _listed("--scheduling", scheduling or FIFO, SCHEDULINGS),
    )
    return tuple(LoopCondition(int(rate), int(count), kind) for rate, count, kind in product(*chosen))


def renamed(figures: Sequence[Figure], suffix: str) -> tuple[Figure, ...]:
    """The figures with `suffix` behind their names."""
    return tuple(replace(figure, name=figure.name + suffix) for figure in figures)


def _listed(option: str, text: str, valid: Sequence[str]) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    for item in items:
        if item not in valid:
            raise ValueError(f"{option}: unknown value {item!r}; valid: {', '.join(valid)}")
    # Each once: two runs under one name could not be told apart.
    return list(dict.fromkeys(items))

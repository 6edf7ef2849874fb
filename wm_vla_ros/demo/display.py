"""The demo's live table on stderr."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wm_vla_ros.demo.run import Leg, LegResult, Status


class Display:
    """Shows the instructions as they go. Without a terminal it prints one line per event instead."""

    def __init__(self, plan: Sequence[Leg]) -> None:
        self._plan = plan
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._words = ""
        self._status: Status | None = None
        self._told = 0

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, words: str) -> None:
        """A line about what is going on."""
        self._words = words
        if self._console.is_terminal:
            self._refresh()
        else:
            self._console.print(words)

    def show(self, status: Status) -> None:
        """The state of the instruction under way."""
        self._status = status
        self._words = ""
        if self._console.is_terminal:
            self._refresh()
            return
        for result in status.results[self._told :]:
            self._console.print(f"{result.leg.instruction}: {_ending(result)}")
        self._told = len(status.results)

    def _refresh(self) -> None:
        table = Table("instruction", "time", "distance", "as believed", "will succeed", "state")
        status = self._status
        results = status.results if status else []
        for index, leg in enumerate(self._plan):
            if index < len(results):
                done = results[index]
                time = f"{done.span.end - done.span.start:.1f} s"
                table.add_row(leg.instruction, time, _metres(done.distance), "", "", _ending(done))
            elif status is not None and status.leg == index:
                table.add_row(
                    leg.instruction,
                    f"{status.elapsed:.1f} s",
                    _metres(status.distance),
                    _metres(status.believed),
                    _share(status.predicted_success),
                    "under way",
                )
            else:
                table.add_row(leg.instruction, "", "", "", "", "")
        lines = [Text(self._words)] if self._words else []
        if status is not None and not self._words:
            lines.append(
                Text(
                    f"fast loop {status.rate_hz:.1f} Hz, plan {status.plan_ms:.1f} ms, "
                    f"newest image {status.observation_age_ms:.0f} ms old"
                )
            )
        self._live.update(Group(table, *lines), refresh=True)


def _ending(result: LegResult) -> str:
    if result.success_after is not None:
        return f"done after {result.success_after:.1f} s"
    return f"not done ({result.outcome}), {_metres(result.distance)} missing"


def _metres(value: float) -> str:
    return "" if math.isnan(value) else f"{value * 100:.1f} cm"


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"

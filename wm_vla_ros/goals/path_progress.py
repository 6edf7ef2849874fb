"""How far along its goal's path the arm is: by where it is, and by the clock when it cannot get on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.goals.path import GroundedPath

# Control ticks without progress after which the path's time passes anyway.
_PATIENCE = 6


class PathProgress:
    """Progress on one path after another, in path ticks; never backwards on one path.

    An arm follows a path by where it is, and not by the clock. But a path may lead where the arm cannot
    go, or rest for a while: an arm that waits there for progress would wait for ever, and on the next
    path again. After some ticks without progress the policy's own time passes, a tick at a time.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._waited = 0

    def enter(self) -> None:
        """The path is a new one."""
        self._at = None

    def entered(self, path: GroundedPath, tip: NDArray[np.float32], now: float) -> float:
        """Path tick at `now` (seconds). A new path is entered by a tip at `tip` (3,) metres."""
        if self._at is None:
            stuck = self._waited > _PATIENCE
            self._at = path.progress_at(now) if stuck else path.entry(tip, now)
        return self._at

    def advance(self, path: GroundedPath, tip: NDArray[np.float32]) -> float:
        """Path tick of a tip at `tip` (3,) metres, which has entered the path. Once per control tick.

        Raises RuntimeError before `entered`.
        """
        if self._at is None:
            raise RuntimeError("the path was not entered yet")
        last = path.steps - 1.0
        reached = path.advance(tip, self._at)
        self._waited = self._waited + 1 if reached <= self._at < last else 0
        self._at = min(self._at + 1.0, last) if self._waited > _PATIENCE else reached
        return self._at

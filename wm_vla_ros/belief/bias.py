"""Offset-free prediction: a constant disturbance of the tool's velocity, estimated online.

Disturbance model of offset-free MPC (Pannocchia & Rawlings, AIChE J. 2003): the disturbance enters where the
input does, d[k+1] = d[k], and its estimate is the filtered difference between the motion that was measured
and the motion that was commanded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.belief.actions import ActionTimeline

# Change of the commanded velocity over the window, action units, from which on a servo's lag may look like
# drift as large as the deadband.
_UNSTEADY = 0.1


class BiasEstimator:
    """Unmodelled translation per tick, in action units (3,).

    window: seconds over which motion is compared; long against the servo's lag, so that acceleration does
    not look like drift. time_constant: seconds of the filter. limit: largest believable bias, action units.
    deadband: what is taken off the estimate while the commanded velocity changes, action units, since a lag
    of tau is an apparent drift of tau dv / window. Once the command is steady it goes to zero with the
    filter, and with it the error that it would leave for good.
    """

    def __init__(
        self,
        translation_scale: float,
        dt: float,
        window: float = 0.2,
        time_constant: float = 0.25,
        limit: float = 0.15,
        deadband: float = 0.006,
    ) -> None:
        self._scale = translation_scale
        self._dt = dt
        self._window = window
        self._time_constant = time_constant
        self._limit = limit
        self._deadband = deadband
        self._tips: list[tuple[float, NDArray[np.float64]]] = []
        self._raw = np.zeros(3)
        self._doubt = deadband

    @property
    def value(self) -> NDArray[np.float32]:
        """(3,) bias per tick in action units; zero while it is too small to tell from servo lag."""
        size = float(np.linalg.norm(self._raw))
        kept = max(0.0, size - self._doubt)
        shrunk = self._raw * (kept / size) if size > 0 else self._raw
        return shrunk.astype(np.float32)

    def reset(self) -> None:
        """Forget: a new episode, another arm pose by hand."""
        self._tips.clear()
        self._raw = np.zeros(3)
        self._doubt = self._deadband

    def update(self, tip: NDArray[np.float64], at: float, timeline: ActionTimeline) -> None:
        """Take a measured tip (3,) in metres at time `at`; used at most once a tick."""
        if self._tips and at - self._tips[-1][0] < 0.75 * self._dt:
            return
        self._tips.append((at, np.asarray(tip, dtype=np.float64)))
        while len(self._tips) > 1 and self._tips[1][0] <= at - self._window:
            self._tips.pop(0)
        start, tip_then = self._tips[0]
        if at - start < 0.9 * self._window:
            return
        commanded = timeline.between(start, at)
        if commanded is None or commanded.ticks == 0.0:
            return
        moved = (self._tips[-1][1] - tip_then) / self._scale
        excess = (moved - commanded.translation()) / commanded.ticks
        gain = self._dt / self._time_constant
        self._raw += gain * (np.clip(excess, -self._limit, self._limit) - self._raw)
        change = float(np.linalg.norm(commanded.actions[-1, :3] - commanded.actions[0, :3]))
        lag = self._deadband * min(1.0, change / _UNSTEADY)
        self._doubt = max(lag, self._doubt * (1.0 - gain))

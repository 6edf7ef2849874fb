"""How late images come, and how late the arm follows: estimated online, with their uncertainty.

Both estimates are lower quartiles, not means. A planner that believes in more delay than there is acts on
motion that has not happened and overshoots; one that believes in less is only a little late. Measured with
the true dynamics, one step too many costs more than one too few. What came before the caches were warm, the
first of everything, is never counted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.belief.actions import ActionTimeline

_QUARTILE = 0.25
# Standard deviations per median absolute deviation, of a normal distribution.
_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class DelayEstimate:
    """value: lower quartile, seconds. deviation: of single measurements, robust, seconds. samples: used."""

    value: float
    deviation: float
    samples: int


class DelayWindow:
    """The latest single measurements of a delay in seconds, the first `cold` of all left out.

    least: measurements before there is an estimate. `add` and `estimate` may be called from two threads.
    """

    def __init__(self, cold: int, least: int, most: int) -> None:
        self._cold = cold
        self._least = least
        self._seen: deque[float] = deque(maxlen=most)

    def add(self, delay: float) -> None:
        """Take one measurement. One that is not a finite time from 0 on says nothing, and is left out."""
        if not 0.0 <= delay < np.inf:
            return
        if self._cold:
            self._cold -= 1
            return
        self._seen.append(delay)

    def estimate(self) -> DelayEstimate | None:
        """The estimate, or None before there are enough measurements."""
        seen = np.array(self._seen.copy())
        if len(seen) < self._least:
            return None
        deviation = _MAD * float(np.median(np.abs(seen - np.median(seen))))
        return DelayEstimate(float(np.quantile(seen, _QUARTILE)), deviation, len(seen))


def observation_delay() -> DelayWindow:
    """Of images: their arrival less their stamp, over the last 5 s or so, without the first third of one."""
    return DelayWindow(cold=10, least=10, most=150)


@dataclass(frozen=True, slots=True)
class Motion:
    """A span of motion to be fitted. times: (K,) s, tips: (K, 3) m measured. knots: (M,) s, path: (M, 3) m
    commanded."""

    times: NDArray[np.float64]
    tips: NDArray[np.float64]
    knots: NDArray[np.float64]
    path: NDArray[np.float64]


class ActuationDelay:
    """How long after a command was written the tip is there: pure delay and servo lag together.

    Over each span of `window` seconds in which the arm moved, the commanded path is shifted in time until
    the measured one fits best, up to an offset and a constant drift:

        min over tau of  sum_k | p(t_k) - c(t_k - tau) - a - b t_k |^2

    p: measured tip. c: the translations applied, summed up; a target is written at once, which is linear
    motion half a tick later. Lags up to `most` are tried every quarter tick, and a parabola through the best
    three gives the rest. Nothing is concluded from an arm at rest or at constant velocity, at which every lag
    fits as well, nor from a fit that leaves more than a quarter of the motion unexplained: something else
    moved the arm.

    `take` and `fit` are for one thread; `fit` alone takes time, some 0.5 ms twice per window.
    """

    def __init__(self, translation_scale: float, dt: float, window: float = 1.2, most: float = 0.12) -> None:
        self._scale = translation_scale
        self._dt = dt
        self._window = window
        self._lags = np.arange(-0.5 * dt, most + 1e-9, 0.25 * dt)
        self._tips: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._next_fit = -np.inf
        self._fits = DelayWindow(cold=2, least=3, most=24)

    def reset(self) -> None:
        """The arm is elsewhere: the motion up to here is not continued. What was learned stays."""
        self._tips.clear()
        self._next_fit = -np.inf

    def estimate(self) -> DelayEstimate | None:
        """Over the spans of motion so far; None before the third that counts."""
        return self._fits.estimate()

    def take(self, tip: NDArray[np.float64], at: float, timeline: ActionTimeline) -> Motion | None:
        """Take a measured tip (3,) in metres at `at`; twice per window, returns what is to be fitted.

        A tip less than about a tick newer than the last is left out.
        """
        if self._tips and at - self._tips[-1][0] < 0.75 * self._dt:
            return None
        self._tips.append((at, np.asarray(tip, dtype=np.float64)))
        while self._tips[0][0] < at - self._window:
            self._tips.popleft()
        begin = self._tips[0][0] - self._lags[-1] - self._dt
        if at < self._next_fit or at - self._tips[0][0] < 0.9 * self._window:
            return None
        self._next_fit = at + 0.5 * self._window
        span = timeline.between(begin, at + self._dt)
        if span is None:
            return None
        steps = span.actions[:, :3].astype(np.float64) * self._scale
        path = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
        times, tips = zip(*self._tips, strict=True)
        return Motion(np.array(times), np.array(tips), begin + self._dt * np.arange(len(path)), path)

    def fit(self, motion: Motion) -> None:
        """Add the delay that explains `motion`, if one does."""
        lag = self._best(motion)
        if lag is not None:
            self._fits.add(max(0.0, lag + 0.5 * self._dt))

    def _best(self, motion: Motion) -> float | None:
        times = motion.times
        # (L, K, 3): the commanded path as it would be measured at each lag.
        then = times[None] - self._lags[:, None]
        shifted = np.stack([np.interp(then, motion.knots, column) for column in motion.path.T], axis=-1)
        centred = times - times.mean()
        commanded = _detrended(shifted, centred)
        error = np.sum((_detrended(motion.tips[None], centred) - commanded) ** 2, axis=(1, 2))
        best = int(np.argmin(error))
        moved = float(np.sum(commanded[best] ** 2))
        # 3 mm rms of motion that is not at constant velocity; less is lost in the servos' own play.
        if moved < len(times) * 0.003**2 or error[best] > 0.25 * moved or best == len(error) - 1:
            return None
        if best == 0:
            return float(self._lags[0])
        left, middle, right = error[best - 1 : best + 2]
        bend = left - 2.0 * middle + right
        offset = 0.5 * (left - right) / bend if bend > 0.0 else 0.0
        return float(self._lags[best] + offset * (self._lags[1] - self._lags[0]))


def _detrended(paths: NDArray[np.float64], centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Paths (L, K, 3) less their own least-squares line over the times `centred` (K,) about zero."""
    slope = np.einsum("k,lkd->ld", centred, paths) / float(centred @ centred)
    return paths - paths.mean(axis=1, keepdims=True) - centred[None, :, None] * slope[:, None]

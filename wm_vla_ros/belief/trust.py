"""Trust in an observation against the prior: a scalar Kalman gain whose noise ratio is estimated online.

In units of the observation's variance, a belief of variance p that is carried over n ticks has variance
p + n q, and the gain is that over itself plus one (Kalman, 1960, for a random walk). Only q matters: how much
doubt the world model adds per tick, as a share of the encoder's own. It is found by making successive
innovations orthogonal, which they are under the optimal gain and under no other (Mehra, "On the
Identification of Variances and Adaptive Kalman Filtering", IEEE TAC 1970): alike, they say that too little
was believed; opposed, too much. Their cosine is bounded, so no outlier moves the estimate by more than one
small step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_vla_ros.types import FloatArray

# Doubt per tick at the start: what the estimate settles at on this stack's own simulation.
INITIAL_RATIO = 1.0
# Gains between 0.06 and 0.99 at one observation per tick: never deaf to the camera, never all faith in it.
_LOWEST, _HIGHEST = 0.004, 100.0
# Change of log q per observation and unit of cosine: a wrong q is mended within some 40 observations.
_RATE = 0.1


@dataclass(frozen=True, slots=True)
class Trust:
    """State of the estimate after one observation; a value, so that a replay can begin at any of them.

    gain: share of that observation's innovation that was believed, which is also the variance that is left.
    ratio: q. innovation: (D,) of that observation, or None for the first.
    """

    gain: float = 1.0
    ratio: float = INITIAL_RATIO
    innovation: FloatArray | None = None

    def after(self, innovation: FloatArray, ticks: float) -> Trust:
        """Trust in an observation `ticks` later that came `innovation` (D,) from the prior."""
        doubt = self.gain + max(ticks, 0.0) * self.ratio
        ratio = self.ratio * np.exp(_RATE * _cosine(innovation, self.innovation))
        return Trust(doubt / (doubt + 1.0), float(np.clip(ratio, _LOWEST, _HIGHEST)), innovation)


@dataclass(frozen=True, slots=True)
class FixedTrust:
    """The same gain for every observation, for those who want it so."""

    gain: float

    def after(self, innovation: FloatArray, ticks: float) -> FixedTrust:
        """Itself."""
        return self


def _cosine(one: FloatArray, other: FloatArray | None) -> float:
    """Cosine of the angle between two vectors (D,); 0 where there is no angle."""
    if other is None:
        return 0.0
    size = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / size if 1e-12 < size < np.inf else 0.0

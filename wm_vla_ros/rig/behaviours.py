"""Who acts while an episode is recorded, and who is asked what should have been done.

A demonstration is the expert's, interrupted: now and then something else acts for a while (a push in some
direction, or a policy that is being trained), the expert's own answer is recorded at every row, and then it
recovers. What a policy learns from that is how to come back (noise injection: DART, Laskey et al. 2017; with
a policy as the interruption: DAgger, Ross et al. 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.spec import RobotSpec

Action = NDArray[np.float32]

# Metres per tick that a noise burst adds, and ticks that it lasts and that pass before the next.
NOISE_SPEED = (0.001, 0.0035)
NOISE_TICKS = (15, 30)
NOISE_PAUSE_TICKS = (40, 110)


class Interruption(Protocol):
    """Replaces the expert's action in some rows."""

    def start(self, rng: np.random.Generator) -> None:
        """A new episode begins."""

    def __call__(self, expert: Action) -> Action | None:
        """The action (7,) to execute in this row instead of `expert`, or None: the expert acts."""


class NoInterruption:
    """The expert alone."""

    def start(self, rng: np.random.Generator) -> None:
        """Nothing to prepare."""

    def __call__(self, expert: Action) -> Action | None:
        """Always None."""
        return None


@dataclass
class NoiseBursts:
    """Bursts of about half a second in which a constant motion in a random direction is added."""

    spec: RobotSpec

    def start(self, rng: np.random.Generator) -> None:
        """The first burst may come at once: short tasks need some as well."""
        self._rng = rng
        self._left = 0
        self._pause = int(rng.integers(0, NOISE_PAUSE_TICKS[1]))

    def __call__(self, expert: Action) -> Action | None:
        """The expert's action with the burst's motion added, or None between bursts."""
        if self._left == 0:
            if self._pause > 0:
                self._pause -= 1
                return None
            direction = self._rng.normal(size=3) * (1.0, 1.0, 0.7)
            direction /= np.linalg.norm(direction)
            self._motion = direction * self._rng.uniform(*NOISE_SPEED) / self.spec.translation_scale
            self._left = int(self._rng.integers(*NOISE_TICKS))
            self._pause = int(self._rng.integers(*NOISE_PAUSE_TICKS))
        self._left -= 1
        disturbed = expert.copy()
        disturbed[:3] += self._motion.astype(np.float32)
        return np.clip(disturbed, -1.0, 1.0)


# Ticks that the policy acts, its first inference included, and that the expert then has to recover.
POLICY_TICKS = (30, 160)
EXPERT_TICKS = (60, 90)


@dataclass
class PolicyTurns:
    """A policy acts for a while, then the expert, in turns.

    act: gives the policy's next action (7,); restart: called when the policy's turn begins.
    """

    act: Callable[[], Action]
    restart: Callable[[], None]

    def start(self, rng: np.random.Generator) -> None:
        """The policy begins."""
        self._rng = rng
        self._left = self._rest = 0

    def __call__(self, expert: Action) -> Action | None:
        """The policy's action in its turn, None in the expert's."""
        if self._left == 0 and self._rest == 0:
            self._left = int(self._rng.integers(*POLICY_TICKS))
            self._rest = int(self._rng.integers(*EXPERT_TICKS))
            self.restart()
        if self._left > 0:
            self._left -= 1
            return self.act()
        self._rest -= 1
        return None

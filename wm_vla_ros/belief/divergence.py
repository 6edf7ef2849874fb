"""What to do about a prior and an observation that part: start anew from the measurement, or hold."""

from __future__ import annotations


class DivergenceWatch:
    """Judges the distance between prior and observation, one observation after the other.

    `count` distances in a row beyond `bound` metres: the belief is wrong, and is to start anew from the
    measurement. `count` more, with no calm in between: the world does not do what the model says, or the
    encoder does not say what the world does; no plan made on either is safe, and the arm is to hold. Calm
    is `count` distances in a row within the bound, and ends the hold.
    """

    def __init__(self, bound: float, count: int) -> None:
        self._bound = bound
        self._count = count
        self.reset()

    @property
    def holding(self) -> bool:
        """Whether nothing may be planned on the belief."""
        return self._holding

    def reset(self) -> None:
        """Forget: a new episode."""
        self._beyond = 0
        self._within = 0
        self._anew = False
        self._holding = False

    def update(self, divergence: float) -> bool:
        """Take the divergence of one observation, metres. Returns whether the belief is to start anew."""
        if divergence <= self._bound:
            self._beyond = 0
            self._within += 1
            if self._within >= self._count:
                self._anew = self._holding = False
            return False
        self._within = 0
        self._beyond += 1
        if self._beyond < self._count:
            return False
        self._beyond = 0
        self._holding = self._holding or self._anew
        self._anew = True
        return True

"""The goal in force: validated when it arrives, used until its time runs out."""

from __future__ import annotations

import numpy as np

from wm_vla_ros.types import LatentGoal

# A latent that is layer-normalised has norm sqrt(dim); ten times that is no latent of any encoder.
_NORM_FACTOR = 10.0
# A goal stems from an observation that was made: clocks of one machine agree far better than this, seconds.
_FUTURE = 0.05


class GoalRefused(ValueError):
    """A goal that must never steer the arm; the message names what is wrong with it."""


class GoalBuffer:
    """Keeps the newest valid goal. A refused goal changes nothing: the earlier one stays until it expires."""

    def __init__(self, encoder_id: str, dim: int) -> None:
        self._encoder_id = encoder_id
        self._dim = dim
        self._goal: LatentGoal | None = None

    def offer(self, goal: LatentGoal, now: float) -> None:
        """Take `goal` over. Raises GoalRefused on the first thing that is wrong with it."""
        if goal.encoder_id != self._encoder_id:
            raise GoalRefused(f"encoder_id {goal.encoder_id!r}, this planner uses {self._encoder_id!r}")
        steps, dim = goal.embeddings.shape
        if steps == 0 or dim != self._dim:
            raise GoalRefused(f"embeddings are ({steps}, {dim}), need at least one step of {self._dim}")
        if not np.all(np.isfinite(goal.embeddings)):
            row, column = np.argwhere(~np.isfinite(goal.embeddings))[0]
            raise GoalRefused(f"embedding step {row}, entry {column} is {goal.embeddings[row, column]}")
        largest = float(np.max(np.linalg.norm(goal.embeddings.astype(np.float64), axis=1)))
        if largest > _NORM_FACTOR * np.sqrt(dim):
            raise GoalRefused(f"embedding norm {largest:.3g} is beyond {_NORM_FACTOR * np.sqrt(dim):.3g}")
        for name in ("stamp", "dt", "valid_for"):
            if not np.isfinite(getattr(goal, name)):
                raise GoalRefused(f"{name} is {getattr(goal, name)}")
        if not 0.0 <= goal.confidence <= 1.0:
            raise GoalRefused(f"confidence is {goal.confidence}, must be between 0 and 1")
        weights = np.ones(dim) if goal.precision is None else goal.precision
        if weights.shape != (dim,) or not np.all((weights >= 0.0) & np.isfinite(weights)):
            raise GoalRefused(f"precision must be {dim} finite weights of at least 0, got {weights}")
        if goal.dt <= 0.0 or goal.valid_for <= 0.0:
            raise GoalRefused(f"dt {goal.dt} s and valid_for {goal.valid_for} s must be positive")
        if now > goal.stamp + goal.valid_for:
            raise GoalRefused(f"expired {now - goal.stamp - goal.valid_for:.3f} s ago")
        if goal.stamp > now + _FUTURE:
            raise GoalRefused(f"stamped {goal.stamp - now:.3f} s ahead")
        # A source that was restarted counts from the start again: it is heard when the last goal has run out,
        # and only with newer observations, so that no late goal passes for a new one.
        last, in_force = self._goal, self.current(now) is not None
        if last is not None and goal.sequence <= last.sequence and (in_force or goal.stamp <= last.stamp):
            raise GoalRefused(f"sequence {goal.sequence} is not newer than {last.sequence}")
        self._goal = goal

    def current(self, now: float) -> LatentGoal | None:
        """The goal in force at `now`, or None when there is none or its time has run out."""
        goal = self._goal
        if goal is None or now > goal.stamp + goal.valid_for:
            return None
        return goal

    def clear(self) -> None:
        """Forget the goal: the instruction it served has ended."""
        self._goal = None

"""The path that a latent goal describes, in metres, and how fast it may be travelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import LatentGoal
from wm_vla_ros.world_models.protocol import WorldModel

# A cube that is imagined to move by more than this per tick is being pushed (noise is a fifth of it), metres.
_MOVING = 0.0005
# Ticks before and after imagined contact that are travelled at the policy's own pace as well.
_CAUTION = 8
# How far along the path, in ticks, the search for the nearest point looks back and ahead.
_BACK, _AHEAD = 4.0, 8.0


class GroundedPath:
    """A goal's path through the world model's grounding head.

    latents: (S, D). grounded: (S, G) metres. pace: (S,) path ticks that may pass per control tick: free
    space faster than the policy showed, contact exactly as it showed.
    """

    def __init__(self, goal: LatentGoal, model: WorldModel, free_pace: float) -> None:
        self.goal = goal
        self.latents = goal.embeddings
        self.grounded = model.ground(goal.embeddings)
        names = model.grounding_names
        self.tip = [names.index(f"tip.{axis}") for axis in "xyz"]
        self.cubes = [i for i, name in enumerate(names) if "cube" in name]
        self.pace = self._paces(free_pace)

    @property
    def steps(self) -> int:
        return len(self.latents)

    def progress_at(self, time: float) -> float:
        """Where the policy meant to be at `time` (seconds), in path ticks, clipped to the path."""
        return float(np.clip((time - self.goal.stamp) / self.goal.dt, 0.0, self.steps - 1.0))

    def nearest(self, tip: NDArray[np.float32], around: float) -> float:
        """Path tick nearest to `tip` (3,) metres, not far from `around`.

        A window, and not the whole path: a path that crosses itself must not be cut short.
        """
        low = int(max(0, np.floor(around - _BACK)))
        high = int(min(self.steps - 1, np.ceil(around + _AHEAD)))
        points = self.grounded[low : high + 1, self.tip]
        distance = np.linalg.norm(points - tip, axis=1)
        # Standing still makes many points equally near: prefer the one where the policy meant to be.
        distance += 2e-4 * np.abs(np.arange(low, high + 1) - around)
        return float(low + int(np.argmin(distance)))

    def schedule(self, start: float, ticks: int) -> NDArray[np.float64]:
        """Path ticks (ticks,) to be at after each of the next control ticks, from `start`."""
        out = np.empty(ticks)
        at = start
        for i in range(ticks):
            at = min(at + self.pace[min(int(at), self.steps - 1)], self.steps - 1.0)
            out[i] = at
        return out

    def points(self, at: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Grounded points (n, G) in metres and latents (n, D) at fractional path ticks `at` (n,)."""
        low = np.minimum(at.astype(int), self.steps - 1)
        high = np.minimum(low + 1, self.steps - 1)
        share = (at - low).astype(np.float32)[:, None]
        grounded = self.grounded[low] * (1 - share) + self.grounded[high] * share
        return grounded, self.latents[low] * (1 - share) + self.latents[high] * share

    def _paces(self, free_pace: float) -> NDArray[np.float64]:
        if self.steps == 1:
            return np.ones(1)
        moved = np.diff(self.grounded[:, self.cubes], axis=0).reshape(self.steps - 1, -1, 3)
        pushing = np.append(np.linalg.norm(moved, axis=2).max(axis=1) > _MOVING, False)
        careful = np.convolve(pushing, np.ones(2 * _CAUTION + 1), mode="same") > 0
        return np.where(careful, 1.0, free_pace)

"""The path that a latent goal describes, in metres, and how fast it may be travelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import LatentGoal
from wm_vla_ros.world_models.protocol import WorldModel

# A cube that is imagined to move by more than this per tick is being pushed (noise is a fifth of it), metres.
_MOVING = 0.0005
# Ticks before and after imagined contact that are travelled at its pace as well.
_CAUTION = 8
# How many ticks along the path one look may advance.
_AHEAD = 4
# A path leads to an object when its tip comes as near as this, and leaves the object about there, metres.
_NEAR, _STANDS = 0.05, 0.01
# An object that is not where the path has it shifts the path: by nothing up to here, which is what grounding
# errs by, and by no more than that, metres.
_SHIFT_FROM, _SHIFT_TO = 0.003, 0.05
# Points whose distances differ by less than this count as equally near, metres.
_ABOUT = 0.002


class GroundedPath:
    """A goal's path through the world model's grounding head.

    latents: (S, D). latent_weight: (D,) or one for all. grounded: (S, G) metres. max_pace: the greater pace.
    pace: (S,) path ticks that may pass per control tick, fewer where the path is imagined to touch something.
    """

    def __init__(self, goal: LatentGoal, model: WorldModel, pace: float, contact_pace: float) -> None:
        self.goal = goal
        self.latents = goal.embeddings
        precision = np.ones(1, np.float32) if goal.precision is None else goal.precision
        self.latent_weight = np.float32(goal.confidence) * precision
        self.grounded = model.ground(goal.embeddings)
        names = model.grounding_names
        self.tip = [names.index(f"tip.{axis}") for axis in "xyz"]
        self.cubes = [i for i, name in enumerate(names) if "cube" in name]
        self._approached = self._nearest_object()
        self.max_pace = pace
        self.pace = self._paces(pace, contact_pace)

    @property
    def steps(self) -> int:
        return len(self.latents)

    def progress_at(self, time: float) -> float:
        """Where the policy meant to be at `time` (seconds), in path ticks, clipped to the path."""
        return float(np.clip((time - self.goal.stamp) / self.goal.dt, 0.0, self.steps - 1.0))

    def entry(self, tip: NDArray[np.float32], now: float) -> float:
        """Path tick at which an arm with its tip at `tip` (3,) metres enters the path at time `now`.

        The first point that is about as near as any up to where the arm can have come by now. The first,
        and not the nearest: a path that leads up and down again is near itself, and its beginning is the
        part that must not be skipped.
        """
        last = int(min(self.steps - 1, np.ceil(self.max_pace * self.progress_at(now)) + _AHEAD))
        distance = np.linalg.norm(self.grounded[: last + 1, self.tip] - tip, axis=1)
        return float(np.argmax(distance <= distance.min() + _ABOUT))

    def advance(self, tip: NDArray[np.float32], start: float) -> float:
        """Path tick reached from `start` by an arm with its tip at `tip` (3,) metres, never before `start`.

        Walks on while the path comes nearer to the tip, so that it stops where the path folds.
        """
        at = int(start)
        points = self.grounded[at : at + _AHEAD + 1, self.tip]
        distance = np.linalg.norm(points - tip, axis=1)
        farther = np.flatnonzero(np.diff(distance) >= 0.0)
        steps = int(farther[0]) if len(farther) else len(distance) - 1
        return max(start, float(at + steps))

    def shift(self, grounded: NDArray[np.float32], at: float) -> NDArray[np.float32]:
        """(G,) metres by which the object that the path leads to is not where the path has it at tick `at`.

        grounded: (G,) of the present. Zero but for the horizontal columns of tip and objects, which all get
        the same: the path is about the object, and was imagined from an image that is as old as the policy
        is slow. A path that pushes its object is never shifted: it is about where the object is to go.
        """
        out = np.zeros(len(grounded), np.float32)
        if self._approached is None:
            return out
        x, y = self._approached
        expected = self.points(np.array([at]))[0][0]
        moved = np.array([grounded[x] - expected[x], grounded[y] - expected[y]])
        size = float(np.hypot(*moved))
        if size <= _SHIFT_FROM:
            return out
        moved *= min(size - _SHIFT_FROM, _SHIFT_TO) / size
        for columns in (self.tip, *np.reshape(self.cubes, (-1, 3))):
            out[columns[:2]] = moved
        return out

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

    def _nearest_object(self) -> tuple[int, int] | None:
        """Columns of x and y of the object that the tip is led to, or None without one."""
        objects = np.reshape(self.cubes, (-1, 3))
        if not len(objects):
            return None
        tip = self.grounded[:, None, self.tip]
        distance = np.linalg.norm(self.grounded[:, objects] - tip, axis=2).min(axis=0)
        nearest = int(np.argmin(distance))
        x, y = objects[nearest][:2].tolist()
        travelled = np.hypot(*(self.grounded[:, [x, y]] - self.grounded[0, [x, y]]).T).max()
        return (x, y) if distance[nearest] < _NEAR and travelled < _STANDS else None

    def _paces(self, pace: float, contact_pace: float) -> NDArray[np.float64]:
        if self.steps == 1:
            return np.ones(1)
        moved = np.diff(self.grounded[:, self.cubes], axis=0).reshape(self.steps - 1, -1, 3)
        pushing = np.append(np.linalg.norm(moved, axis=2).max(axis=1, initial=0.0) > _MOVING, False)
        careful = np.convolve(pushing, np.ones(2 * _CAUTION + 1), mode="same") > 0
        return np.where(careful, contact_pace, pace)

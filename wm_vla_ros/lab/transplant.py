"""A demonstration's motion carried over to another scene, in metres: what imagined demonstrations follow.

As MimicGen does with simulated scenes (Mandlekar et al., CoRL 2023): near an object the hand moves relative
to it, and on the way there it goes straight. What a demonstration is about is read off it (which object it
moves, or ends at, and near which other one it leaves it), so that nobody has to label anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray

# Metres: an object that ends so far from where it began was moved, and per tick it is being moved.
_MOVED, _MOVING = 0.02, 0.0005
# Metres from the object within which the hand's path is the demonstration's.
_NEAR = 0.08
# How much faster or slower than shown a stretch may be gone over, and how much longer a push may be.
_STRETCH = (0.25, 4.0)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """T ticks in metres. tip: (T, 3), objects: (T, K, 3), actions: (T, A) of the expert, disturbed: (T,)."""

    task: str
    tip: FloatArray
    objects: FloatArray
    actions: FloatArray
    disturbed: NDArray[np.bool_]

    @property
    def speed(self) -> float:
        """Metres per tick of the tip when it goes fast."""
        return float(np.quantile(np.linalg.norm(np.diff(self.tip, axis=0), axis=1), 0.9))

    def undisturbed(self, entry: int) -> int:
        """Ticks from `entry` on until something disturbs the expert, or the recording ends."""
        rest = self.disturbed[entry:]
        return int(np.argmax(rest)) if rest.any() else len(rest)


@dataclass(frozen=True, slots=True)
class About:
    """Indices of objects: the one that is moved or touched, and where to it is moved, or None."""

    thing: int
    target: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """L ticks to follow. tip, thing: (L, 3) metres after each tick; actions: (L, A) that would lead there if
    nothing went wrong; row: (L,) the demonstration's tick that each action is of, -1 on the way there."""

    tip: FloatArray
    thing: FloatArray
    actions: FloatArray
    row: NDArray[np.int64]


def about(shown: Sequence[Demonstration]) -> dict[str, About]:
    """By task, what most of its demonstrations are about."""
    votes: dict[str, Counter[About]] = {}
    for demonstration in shown:
        votes.setdefault(demonstration.task, Counter())[_about(demonstration)] += 1
    return {task: found.most_common(1)[0][0] for task, found in votes.items()}


def approach(shown: Demonstration, thing: int) -> int | None:
    """The tick at which the hand comes near the thing for the last time before it moves it.

    None where the recording begins nearer than that.
    """
    objects = shown.objects[:, thing]
    moved = np.linalg.norm(objects - objects[0], axis=1) > _MOVED / 2
    contact = int(np.argmax(moved)) if moved.any() else len(objects)
    far = np.flatnonzero(np.linalg.norm(shown.tip - objects, axis=1)[:contact] > _NEAR)
    return int(far[-1]) if len(far) else None


def transplant(
    shown: Demonstration, what: About, entry: int, tip: FloatArray, objects: FloatArray, scale: float
) -> Route | None:
    """The route of `shown` from its tick `entry` on until it was disturbed, from a tip at (3,) in a scene of
    objects (K, 3).

    scale: metres per tick of an action of 1. None where the scene is too unlike: the thing is at its target
    already, or much farther from it than shown.
    """
    rows, target = slice(entry, entry + shown.undisturbed(entry)), what.target
    thing = shown.objects[rows, what.thing]
    if target is None:
        wanted, was = objects[what.thing] - tip, thing[0] - shown.tip[entry]
    else:
        wanted, was = objects[target] - objects[what.thing], shown.objects[entry, target] - thing[0]
    lengths = np.linalg.norm(wanted[:2]), np.linalg.norm(was[:2])
    directed = min(lengths) >= _MOVED
    stretch = float(lengths[0] / lengths[1]) if directed and target is not None else 1.0
    if target is not None and not (directed and _STRETCH[0] <= stretch <= _STRETCH[1]):
        return None
    turn = _turn(was, wanted) if directed else np.eye(3, dtype=np.float32)
    way = stretch * (thing - thing[0]) @ turn.T + objects[what.thing]
    hand = way + (shown.tip[rows] - thing) @ turn.T
    # A longer push takes longer, at the same speed.
    moving = np.linalg.norm(np.diff(thing, axis=0), axis=1) > _MOVING
    at = np.concatenate([[0.0], np.cumsum(np.where(moving, stretch, 1.0))])
    ticks = np.arange(int(at[-1]) + 1)
    row = np.interp(ticks, at, np.arange(len(at)))
    hand, way = (_resampled(row, path) for path in (hand, way))
    source = np.floor(row + 1e-9).astype(np.int64)[:-1] + entry
    actions = shown.actions[source].copy()
    for first in (0, 3):  # translation and rotation vector
        actions[:, first : first + 3] = actions[:, first : first + 3] @ turn.T
    gap = hand[0] - tip
    count = int(np.ceil(np.linalg.norm(gap) / shown.speed))
    share = (np.arange(1, count + 1) / max(count, 1))[:, None]
    join = np.repeat(actions[:1], count, axis=0)
    join[:, :3] = gap / max(count, 1) / scale
    return Route(
        np.concatenate([tip + share * gap, hand[1:]]).astype(np.float32),
        np.concatenate([np.repeat(way[:1], count, axis=0), way[1:]]).astype(np.float32),
        np.concatenate([join, actions]).astype(np.float32),
        np.concatenate([np.full(count, -1), source]),
    )


def _about(shown: Demonstration) -> About:
    first, last = shown.objects[0], shown.objects[-1]
    travelled = np.linalg.norm((last - first)[:, :2], axis=1)
    if travelled.max() <= _MOVED:
        return About(int(np.argmin(np.linalg.norm(last - shown.tip[-1], axis=1))), None)
    thing = int(np.argmax(travelled))
    away = np.linalg.norm((last - last[thing])[:, :2], axis=1)
    away[thing] = np.inf
    return About(thing, int(np.argmin(away)))


def _turn(was: FloatArray, wanted: FloatArray) -> FloatArray:
    """(3, 3) rotation about the vertical that turns one horizontal direction into the other."""
    angle = np.arctan2(wanted[1], wanted[0]) - np.arctan2(was[1], was[0])
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], np.float32)


def _resampled(row: NDArray[np.float64], path: FloatArray) -> FloatArray:
    return np.stack([np.interp(row, np.arange(len(path)), path[:, axis]) for axis in range(3)], axis=1)

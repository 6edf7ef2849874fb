"""Where things lie at the start of an episode, and how light and cameras differ: all from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.tasks.task import CUBE_SIZE, CUBES, PADS, Task

# The part of the table that the arm reaches with its tool pointing down, metres in the base frame.
X_RANGE, Y_RANGE, RADIUS_RANGE = (0.14, 0.285), (-0.145, 0.145), (0.155, 0.295)
# Behind the cube, seen from the pad: where a push begins. It has to be reachable as well.
APPROACH = 0.040
_APPROACH_RADIUS = (0.125, 0.315)
_CUBE_GAP, _PAD_GAP, _CUBE_PAD_GAP, _CORRIDOR = 0.060, 0.090, 0.048, 0.046
_PUSH_RANGE = (0.065, 0.150)


@dataclass(frozen=True, slots=True)
class Layout:
    """Start of an episode. cubes: name -> (x, y, yaw); pads: name -> (x, y); tip: (3,) start of the tip."""

    seed: int
    cubes: dict[str, tuple[float, float, float]]
    pads: dict[str, tuple[float, float]]
    tip: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Appearance:
    """How an episode looks. Camera offsets in metres and radians (rotation vector), light in 0..1."""

    light_position: NDArray[np.float64]
    light_diffuse: float
    light_ambient: float
    table_rgb: NDArray[np.float64]
    camera_shift: NDArray[np.float64]
    camera_turn: NDArray[np.float64]


def sample_layout(seed: int, task: Task | None = None) -> Layout:
    """A layout in which nothing overlaps and, when a push `task` is given, the way is free.

    Raises RuntimeError if none is found (never seen; it bounds the rejection loop).
    """
    rng = np.random.default_rng([seed, 1])
    for _ in range(20_000):
        pads = dict(zip(PADS, _points(rng, len(PADS)), strict=True))
        cubes = dict(zip(CUBES, _points(rng, len(CUBES)), strict=True))
        if _apart(pads, cubes) and (task is None or task.pad is None or _pushable(task, pads, cubes)):
            yaw = rng.uniform(-np.pi / 4, np.pi / 4, len(CUBES))
            tip = np.array([rng.uniform(0.16, 0.24), rng.uniform(-0.06, 0.06), rng.uniform(0.09, 0.13)])
            poses = {name: (*map(float, xy), float(yaw[i])) for i, (name, xy) in enumerate(cubes.items())}
            return Layout(seed, poses, {name: (float(p[0]), float(p[1])) for name, p in pads.items()}, tip)
    raise RuntimeError(f"no free layout found for seed {seed}")


def sample_appearance(seed: int) -> Appearance:
    """Light, table colour and camera jitter of an episode."""
    rng = np.random.default_rng([seed, 2])
    return Appearance(
        light_position=np.array([rng.uniform(-0.3, 0.7), rng.uniform(-0.6, 0.6), rng.uniform(0.9, 1.5)]),
        light_diffuse=float(rng.uniform(0.45, 0.75)),
        light_ambient=float(rng.uniform(0.25, 0.45)),
        table_rgb=np.clip(np.array([0.87, 0.85, 0.81]) + rng.uniform(-0.08, 0.06, 3), 0.0, 1.0),
        camera_shift=rng.uniform(-0.004, 0.004, 3),
        camera_turn=rng.uniform(-0.007, 0.007, 3),
    )


def _points(rng: np.random.Generator, count: int) -> list[NDArray[np.float64]]:
    points = []
    while len(points) < count:
        point = np.array([rng.uniform(*X_RANGE), rng.uniform(*Y_RANGE)])
        if RADIUS_RANGE[0] <= np.linalg.norm(point) <= RADIUS_RANGE[1]:
            points.append(point)
    return points


def _apart(pads: dict[str, NDArray[np.float64]], cubes: dict[str, NDArray[np.float64]]) -> bool:
    def gap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(first - second))

    pad, cube = list(pads.values()), list(cubes.values())
    return (
        all(gap(a, b) >= _PAD_GAP for i, a in enumerate(pad) for b in pad[:i])
        and all(gap(a, b) >= _CUBE_GAP for i, a in enumerate(cube) for b in cube[:i])
        and all(gap(a, b) >= _CUBE_PAD_GAP for a in pad for b in cube)
    )


def _pushable(
    task: Task, pads: dict[str, NDArray[np.float64]], cubes: dict[str, NDArray[np.float64]]
) -> bool:
    """The push is of a sensible length, its start reachable and its corridor free of the other cubes."""
    assert task.pad is not None
    start, end = cubes[task.cube], pads[task.pad]
    length = float(np.linalg.norm(end - start))
    if not _PUSH_RANGE[0] <= length <= _PUSH_RANGE[1]:
        return False
    direction = (end - start) / length
    behind = start - direction * APPROACH
    if not _APPROACH_RADIUS[0] <= np.linalg.norm(behind) <= _APPROACH_RADIUS[1] or behind[0] < 0.11:
        return False
    for name, other in cubes.items():
        if name == task.cube:
            continue
        along = float(np.clip((other - behind) @ direction, 0.0, length + APPROACH))
        if np.linalg.norm(other - (behind + along * direction)) < _CORRIDOR:
            return False
    return True


REST_HEIGHT = CUBE_SIZE / 2

"""A cube that travels over the table: for a task whose target does not wait."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.sim.layout import RADIUS_RANGE, X_RANGE, Y_RANGE
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import CUBES, Task

# The travelling cube's centre stays this far from the other cubes', metres: wider than two half diagonals.
_GAP = 0.040
# First turn rates that are tried, rad/s; they grow, and the circle shrinks, until one fits on the table.
_TURN = (0.3, 1.2)
_ATTEMPTS = 400
# The path is checked this often, seconds.
_STEP = 0.05


class MovingTarget:
    """Carries the cube of `task` along an arc at `speed` m/s; heading and turn belong to the seed.

    The arc stays where the arm reaches and clear of the other cubes for `duration` seconds. Raises
    RuntimeError when none is found (a layout's gaps leave room for one).
    """

    def __init__(self, seed: int, task: Task, world: SimWorld, speed: float, duration: float) -> None:
        self._row = CUBES.index(task.cube)
        self._speed = speed
        cubes = world.cubes()
        self._start = cubes[task.cube][:2]
        others = [cubes[name][:2] for name in CUBES if name != task.cube]
        times = np.arange(0.0, duration + _STEP, _STEP)
        rng = np.random.default_rng([seed, 6])
        for attempt in range(_ATTEMPTS):
            self._heading = float(rng.uniform(0.0, 2.0 * np.pi))
            turn = float(rng.uniform(*_TURN)) * (1.0 + attempt / 40.0)
            self._turn = turn if rng.uniform() < 0.5 else -turn
            if _free(self.at(times), others):
                return
        raise RuntimeError(f"no free path for the {task.cube} cube found for seed {seed}")

    def at(self, time: float | NDArray) -> NDArray[np.float64]:
        """Centre (..., 2) in metres at `time` (...) seconds after the start of the episode."""
        angle = self._heading + self._turn * np.asarray(time, dtype=np.float64)
        radius = self._speed / self._turn
        x = radius * (np.sin(angle) - np.sin(self._heading))
        y = radius * (np.cos(self._heading) - np.cos(angle))
        return self._start + np.stack([x, y], axis=-1)

    def carry(self, world: SimWorld, time: float) -> None:
        """Put the cube where it is at `time`; height and attitude are left to the physics."""
        poses = world.object_poses()
        poses[self._row, :2] = self.at(time)
        world.set_object_poses(poses)
        world.forward()


def _free(points: NDArray[np.float64], others: list[NDArray[np.float64]]) -> bool:
    radius = np.linalg.norm(points, axis=1)
    inside = (
        (points[:, 0] >= X_RANGE[0])
        & (points[:, 0] <= X_RANGE[1])
        & (np.abs(points[:, 1]) <= Y_RANGE[1])
        & (radius >= RADIUS_RANGE[0])
        & (radius <= RADIUS_RANGE[1])
    )
    apart = [np.linalg.norm(points - other, axis=1).min() >= _GAP for other in others]
    return bool(inside.all() and all(apart))

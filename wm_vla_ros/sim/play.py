"""Play: undirected motion rich in contact, the data from which a world model learns what pushing does.

Demonstrations alone show a cube only ever being pushed well. Play shoves cubes from every side and at every
speed, misses them, slides along them, roams free at up to three times the demonstrations' speed, and now
and then turns the tool and opens the gripper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.layout import X_RANGE, Y_RANGE, Layout
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import CUBES

_SPEED_CHANGE = 0.0015
_INNER, _OUTER, _LOWEST, _HIGHEST = 0.125, 0.305, 0.011, 0.14
# A tip below the first height keeps at least the second away from a cube's centre, metres.
_AMONG, _CLEAR = 0.045, 0.024


class PlayPolicy:
    """A stream of random segments: roam, shove a cube, hover low, tremble. Reproducible from `rng`."""

    def __init__(self, spec: RobotSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self._rng = rng
        self._velocity = np.zeros(3)
        self._tremble = np.zeros(3)
        self._ticks_left = 0

    def action(self, world: SimWorld) -> NDArray[np.float32]:
        """(7,) action for the world's present state."""
        if self._ticks_left <= 0:
            self._new_segment(world)
        self._ticks_left -= 1
        tip = world.tip()
        wanted = self._shove(world, tip) if self._kind == "shove" else self._roam(tip)
        # Ornstein-Uhlenbeck noise: 0.2 s of memory, so that it moves the arm and not just the servos.
        self._tremble += -0.1 * self._tremble + self._noise * self._rng.normal(size=3)
        wanted = _keep_inside(tip, wanted + self._tremble)
        change = wanted - self._velocity
        self._velocity = self._velocity + change * min(
            1.0, _SPEED_CHANGE / max(float(np.linalg.norm(change)), 1e-9)
        )
        action = np.zeros(7, dtype=np.float32)
        action[:3] = self._velocity / self.spec.translation_scale
        phase = 2.0 * np.pi * self._ticks_left / self._length
        action[3:6] = self._turn * np.sin(phase)  # integrates to zero: the tool comes back
        action[6] = self._opening
        return action

    def _new_segment(self, world: SimWorld) -> None:
        rng = self._rng
        self._kind = rng.choice(["roam", "shove", "low", "tremble"], p=[0.22, 0.53, 0.15, 0.10])
        self._length = self._ticks_left = int(rng.integers(15, 40) if self._kind != "shove" else 110)
        self._speed = float(rng.uniform(0.001, 0.009) if self._kind == "roam" else rng.uniform(0.001, 0.005))
        self._noise = float(rng.choice([0.0, 0.0003, 0.0008]) if self._kind != "tremble" else 0.0016)
        low = self._kind in ("low", "shove")
        height = rng.uniform(_LOWEST, 0.03) if low else rng.uniform(_LOWEST, _HIGHEST)
        self._target = np.array([rng.uniform(*X_RANGE), rng.uniform(*Y_RANGE), height])
        if self._kind == "tremble":
            self._target = world.tip()
        turning = self._kind == "roam" and rng.random() < 0.3
        self._turn = rng.uniform(-0.12, 0.12, 3) if turning else np.zeros(3)
        self._opening = float(rng.uniform(0.0, 1.0)) if self._kind == "roam" and rng.random() < 0.2 else 0.0
        self._cube = str(rng.choice(CUBES))
        self._direction = self._pick_direction(world)
        self._aside = float(rng.uniform(-0.014, 0.014))
        self._pushed = 0

    def _pick_direction(self, world: SimWorld) -> NDArray[np.float64]:
        """A direction that more often than not keeps the cube within reach."""
        middle = np.array([0.21, 0.0]) - world.cubes()[self._cube][:2]
        angle = np.arctan2(middle[1], middle[0]) + self._rng.normal(0.0, 1.0)
        return np.array([np.cos(angle), np.sin(angle)])

    def _roam(self, tip: NDArray[np.float64]) -> NDArray[np.float64]:
        return _towards(self._target - tip, self._speed)

    def _shove(self, world: SimWorld, tip: NDArray[np.float64]) -> NDArray[np.float64]:
        along = self._direction
        across = np.array([-along[1], along[0]])
        cube = world.cubes()[self._cube]
        start = cube[:2] - 0.036 * along + self._aside * across
        error = start - tip[:2]
        if self._pushed or (np.linalg.norm(error) < 0.008 and tip[2] < 0.028):
            self._pushed += 1
            if self._pushed > 30 or np.linalg.norm(tip[:2] - cube[:2]) > 0.06:
                self._ticks_left = 0
            return np.array([*(along * self._speed), 0.25 * (self._target[2] - tip[2])])
        near = np.linalg.norm(error) < 0.012
        if not near and tip[2] < 0.035 and np.linalg.norm(tip[:2] - cube[:2]) < 0.05:
            return np.array([0.0, 0.0, 0.004])
        return _towards(np.array([*error, (self._target[2] if near else 0.045) - tip[2]]), 0.005)


def tip_among(layout: Layout, rng: np.random.Generator) -> NDArray[np.float64]:
    """A place (3,) in metres for the tip, anywhere within reach; every other time beside a cube, and low."""
    cubes = np.array([pose[:2] for pose in layout.cubes.values()])
    while True:
        if rng.random() < 0.5:
            angle, away = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(_CLEAR, 0.05)
            place = cubes[rng.integers(len(cubes))] + away * np.array([np.cos(angle), np.sin(angle)])
            height = rng.uniform(_LOWEST, 0.06)
        else:
            place = np.array([rng.uniform(0.10, _OUTER), rng.uniform(*Y_RANGE)])
            height = rng.uniform(_LOWEST, _HIGHEST)
        clear = height > _AMONG or np.linalg.norm(cubes - place, axis=1).min() >= _CLEAR
        if clear and place[0] > 0.09 and _INNER <= np.linalg.norm(place) <= _OUTER:
            return np.array([*place, height])


def _towards(error: NDArray[np.float64], speed: float) -> NDArray[np.float64]:
    step = 0.25 * error
    return step * min(1.0, speed / max(float(np.linalg.norm(step)), 1e-9))


def _keep_inside(tip: NDArray[np.float64], velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn outward motion around where the arm's reach ends."""
    velocity = velocity.copy()
    radius = float(np.linalg.norm(tip[:2]))
    outwards = np.array([*(tip[:2] / max(radius, 1e-6)), 0.0])
    speed = float(velocity @ outwards)
    if (radius > _OUTER and speed > 0) or (radius < _INNER and speed < 0):
        velocity -= 2.0 * speed * outwards
    if tip[0] < 0.10:
        velocity[0] = abs(velocity[0])
    if tip[2] < _LOWEST or tip[2] > _HIGHEST:
        velocity[2] = abs(velocity[2]) if tip[2] < _LOWEST else -abs(velocity[2])
    return velocity

"""Scripted experts: full-state controllers that show the slow policy how a task is done.

They see ground truth that no deployed node has. An action is the 7-D end-effector action; rotation stays
zero and the gripper closed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.layout import APPROACH, REST_HEIGHT
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import CUBE_SIZE, Task

# Metres per tick (20 ms), and how fast that may change.
_FREE_SPEED, _PUSH_SPEED, _SPEED_CHANGE = 0.0035, 0.0025, 0.0012
_GAIN = 0.25
_TRAVEL_HEIGHT, _PUSH_HEIGHT = 0.055, 0.014
_TOUCH_HEIGHT = REST_HEIGHT + 0.0145
_DONE = 0.006
# How far in front of the cube's centre the tip is when they touch.
_CONTACT = CUBE_SIZE / 2 + 0.0055


class ScriptedExpert:
    """Expert for one episode of one task: a new one for every episode; `action` every tick of 20 ms."""

    def __init__(self, spec: RobotSpec, task: Task) -> None:
        self.spec = spec
        self.task = task
        self._velocity = np.zeros(3)
        self._pushing = False

    def action(self, world: SimWorld) -> NDArray[np.float32]:
        """(7,) action for the world's present state."""
        wanted = self._reach(world) if self.task.pad is None else self._push(world)
        change = wanted - self._velocity
        size = float(np.linalg.norm(change))
        self._velocity = self._velocity + change * min(1.0, _SPEED_CHANGE / max(size, 1e-9))
        action = np.zeros(7, dtype=np.float32)
        action[:3] = self._velocity / self.spec.translation_scale
        return action

    def _reach(self, world: SimWorld) -> NDArray[np.float64]:
        goal = world.cubes()[self.task.cube].copy()
        goal[2] = _TOUCH_HEIGHT
        tip = world.tip()
        flat = np.linalg.norm((goal - tip)[:2])
        # From the side the last stretch is vertical, so that no cube is knocked over on the way down.
        goal[2] += np.clip(0.6 * (flat - 0.012), 0.0, 0.05)
        return _towards(goal - tip, _FREE_SPEED)

    def _push(self, world: SimWorld) -> NDArray[np.float64]:
        assert self.task.pad is not None
        tip, cube = world.tip(), world.cubes()[self.task.cube]
        to_pad = world.pads()[self.task.pad][:2] - cube[:2]
        distance = float(np.linalg.norm(to_pad))
        if distance < _DONE:
            self._pushing = False
            return np.zeros(3)
        along = to_pad / distance
        across = np.array([-along[1], along[0]])
        offset = tip[:2] - cube[:2]
        ahead, aside = float(offset @ along), float(offset @ across)
        low = tip[2] < CUBE_SIZE
        self._pushing = low and ahead < -0.008 and abs(aside) < (0.016 if self._pushing else 0.007)
        if self._pushing:
            speed = min(_PUSH_SPEED, 0.0008 + 0.12 * distance)
            # Off to the side the cube would turn: first get behind it again.
            forwards = speed * max(0.0, 1.0 - abs(aside) / 0.016)
            sideways = -np.clip(0.30 * aside, -0.002, 0.002)
            flat = forwards * along + sideways * across
            return np.array([*flat, _rate(_PUSH_HEIGHT - tip[2])])
        behind = cube[:2] - along * APPROACH
        error = behind - tip[:2]
        if np.linalg.norm(error) < 0.012:
            wanted = _towards(np.array([*error, _PUSH_HEIGHT - tip[2]]), _FREE_SPEED)
        elif tip[2] < _TRAVEL_HEIGHT - 0.012 and np.linalg.norm(offset) < APPROACH + 0.020:
            # Low and close: up before sideways, or the cube is swept away.
            away = offset / max(float(np.linalg.norm(offset)), 1e-6)
            retreat = away * (0.0012 if np.linalg.norm(offset) < APPROACH else 0.0)
            wanted = np.array([*retreat, _FREE_SPEED])
        else:
            height = _TRAVEL_HEIGHT if np.linalg.norm(error) > 0.02 else _PUSH_HEIGHT + 0.02
            wanted = _towards(np.array([*error, height - tip[2]]), _FREE_SPEED)
        return wanted


def _towards(error: NDArray[np.float64], speed: float) -> NDArray[np.float64]:
    """Proportional step towards `error` metres away, at most `speed` metres."""
    step = _GAIN * error
    size = float(np.linalg.norm(step))
    return step * min(1.0, speed / max(size, 1e-9))


def _rate(error: float) -> float:
    return float(np.clip(_GAIN * error, -_PUSH_SPEED, _PUSH_SPEED))

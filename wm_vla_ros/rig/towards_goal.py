"""One goal instead of a slow policy: the planner is told where it is to end, and finds the way itself.

Nobody says how to get there, so that a planner stands or falls with what it knows beyond its horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import AppliedAction, LatentGoal, Observation, Plan
from wm_vla_ros.world_models.protocol import WorldModel

# The goal of a task, made at a time in seconds.
MakeGoal = Callable[[Task, float], LatentGoal]


class TowardsGoal:
    """The fast loop alone, towards one goal from the first tick on; without one it never plans."""

    def __init__(
        self, make_goal: MakeGoal | None, model: WorldModel, spec: RobotSpec, config: MpcConfig | None = None
    ) -> None:
        self._make_goal, self._model, self._spec = make_goal, model, spec
        # Under virtual time the machine's own speed must not decide how much is planned.
        self._config = replace(config or MpcConfig(), deadline=float("inf"))

    def start(self, task: Task) -> None:
        self._task = task
        self._core = MpcCore(self._model, self._spec, self._config)
        self._given = False

    def on_observation(self, observation: Observation, now: float) -> None:
        self._core.on_observation(observation)

    def on_applied(self, applied: AppliedAction) -> None:
        self._core.on_applied(applied)

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        self._core.on_tip(tip, at)

    def tick(self, now: float) -> Plan | None:
        if self._make_goal is not None and not self._given:
            self._core.on_goal(self._make_goal(self._task, now), now)
            self._given = True
        return self._core.tick(now).plan

"""A goal that is one latent: what the cameras see after an expert has done the task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.rig.controllers import newer
from wm_vla_ros.rig.rig import Rig, RigConditions
from wm_vla_ros.rig.towards_goal import MakeGoal
from wm_vla_ros.sim.expert import ScriptedExpert
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import AppliedAction, FloatArray, LatentGoal, Observation, Plan
from wm_vla_ros.world_models.protocol import WorldModel

# The expert goes on until it is nearer than that, metres: its last image shows the middle of what counts.
_WELL_DONE = {"reach": 0.016, "push": 0.012}


def towards_latent(latent: FloatArray, model: WorldModel) -> MakeGoal:
    """Makes a goal of one latent (D,), that is valid for longer than any task takes."""

    def make(task: Task, now: float) -> LatentGoal:
        valid_for = task.time_limit + 1.0
        return LatentGoal(now, 1, task.instruction, model.encoder_id, latent[None], model.dt, valid_for)

    return make


class _Demonstration:
    """The scripted expert drives; what is seen last stays."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.newest: Observation | None = None

    def start(self, task: Task) -> None:
        self._expert = ScriptedExpert(self._rig.spec, task)
        self._plans = 0

    def on_observation(self, observation: Observation, now: float) -> None:
        self.newest = newer(self.newest, observation)

    def on_applied(self, applied: AppliedAction) -> None:
        """It sees the world itself."""

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        """It sees the world itself."""

    def tick(self, now: float) -> Plan:
        dt = self._rig.spec.dt
        self._plans += 1
        action = self._expert.action(self._rig.world)
        return Plan(now, self._plans, "mpc", now - (now % dt) + dt, dt, action[None])


def goal_of(rig: Rig, model: WorldModel, seed: int, task: Task) -> FloatArray:
    """The latent (D,) of what the camera sees after an expert has done `task` in the layout of `seed`.

    Raises RuntimeError when the expert fails.
    """
    shown = _Demonstration(rig)
    result = rig.run(seed, replace(task, tolerance=_WELL_DONE[task.name]), shown, RigConditions())
    if result.distance >= task.tolerance or shown.newest is None:
        raise RuntimeError(f"the expert does not manage {task.instruction!r} in the layout of seed {seed}")
    return model.encode(shown.newest.images, shown.newest.proprio)

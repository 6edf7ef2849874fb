"""Both loops as they are deployed, acting tick by tick on the arm that is being recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.rig.controllers import TwoLoops
from wm_vla_ros.rig.rig import PLANNER_PHASE
from wm_vla_ros.rig.simulated_arm import SimulatedArm
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import AppliedAction, Observation, Plan


class StackActor:
    """Gives the action that the running stack would execute: demonstrations then begin where it really goes.

    cameras: that policy and world model look at. frame_stride: ticks from one image to the next.
    """

    def __init__(self, loops: TwoLoops, arm: SimulatedArm, cameras: Sequence[str], frame_stride: int) -> None:
        self._loops, self._arm = loops, arm
        self._cameras, self._stride = tuple(cameras), frame_stride

    def restart(self, task: Task) -> None:
        """The loops begin anew at the present state: they have seen nothing yet, and hold until they have."""
        self._loops.start(task)
        self._ticks = 0
        self._plan: Plan | None = None
        self._applied_at: float | None = None
        self._seen: Observation | None = None

    def act(self) -> NDArray[np.float32]:
        """The action (7,) of this tick, to be executed; call once per tick. Zero when there is no plan."""
        arm, loops, now = self._arm, self._loops, self._arm.time
        if self._applied_at is not None:
            # The tick before this one, as the nodes tell each other of it.
            loops.on_tip(self._tip, self._applied_at)
            names, joints = arm.spec.joint_names, arm.commanded
            loops.on_applied(AppliedAction(self._applied_at, self._ticks, "mpc", arm.executed, names, joints))
            if self._seen is not None:
                loops.on_observation(self._seen, now)
            self._plan = loops.tick(self._applied_at + PLANNER_PHASE)
        self._seen = None
        if self._ticks % self._stride == 0:
            self._seen = Observation(now, arm.images(self._cameras), arm.proprio())
        self._tip, self._applied_at = arm.world.tip(), now
        self._ticks += 1
        if self._plan is None:
            return np.zeros(7, np.float32)
        row = round((now - self._plan.start) / self._plan.dt)
        return np.array(self._plan.actions[row])

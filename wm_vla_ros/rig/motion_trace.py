"""How a contestant moves: jumps of the commanded velocity where one chunk follows another, and jerk."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.rig.rig import Controller
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import AppliedAction, Observation, Plan


class Contestant(Controller, Protocol):
    """A controller that says which of the policy's chunks its plans stem from. chunk: its number, growing."""

    chunk: int


class MotionTrace:
    """A controller around a controller: passes everything on and remembers the motion of one episode."""

    def __init__(self, inner: Contestant, spec: RobotSpec) -> None:
        self._inner = inner
        self._dt = spec.dt
        self._scale = spec.translation_scale / spec.dt

    def start(self, task: Task) -> None:
        self._chunk_of: dict[int, int] = {}
        self._chunks: list[int | None] = []
        self._velocities: list[NDArray[np.float64]] = []
        self._tips: list[NDArray[np.float64]] = []
        self._inner.start(task)

    def on_observation(self, observation: Observation, now: float) -> None:
        self._inner.on_observation(observation, now)

    def on_applied(self, applied: AppliedAction) -> None:
        self._velocities.append(applied.action[:3].astype(np.float64) * self._scale)
        self._chunks.append(self._chunk_of.get(applied.sequence))
        self._inner.on_applied(applied)

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        self._tips.append(np.asarray(tip, np.float64))
        self._inner.on_tip(tip, at)

    def tick(self, now: float) -> Plan | None:
        plan = self._inner.tick(now)
        if plan is not None:
            self._chunk_of[plan.sequence] = self._inner.chunk
        return plan

    def seam_jumps(self) -> tuple[float, ...]:
        """Change of the tip's commanded velocity, m/s, at each tick that is the first of another chunk.

        The velocity is the one that the gate let through; before the seam it may be that of a hold. The first
        chunk of an episode is no seam.
        """
        return self._changes()[0]

    def smooth_change(self) -> float:
        """Mean change of the tip's commanded velocity, m/s, within chunks: what seams are compared with.

        nan when no chunk lasted two ticks.
        """
        within = self._changes()[1]
        return float(np.mean(within)) if within else float("nan")

    def _changes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Changes of velocity from the tick before, m/s: at seams, and within chunks."""
        seams, within, last = [], [], None
        for i, chunk in enumerate(self._chunks):
            if chunk is None:
                continue
            if last is not None:
                change = float(np.linalg.norm(self._velocities[i] - self._velocities[i - 1]))
                if chunk != last:
                    seams.append(change)
                elif self._chunks[i - 1] is not None:
                    within.append(change)
            last = chunk
        return tuple(seams), tuple(within)

    def jerk(self) -> float:
        """Root mean square of the measured tip's jerk over the episode, m/s^3; nan for under four ticks."""
        if len(self._tips) < 4:
            return float("nan")
        third = np.diff(np.stack(self._tips), n=3, axis=0) / self._dt**3
        return float(np.sqrt(np.mean(np.sum(third**2, axis=1))))

"""Who drives in an in-process evaluation: both loops together, or the slow policy alone, synchronously."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.goals.buffer import GoalRefused
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import ActionChunk, AppliedAction, LatentGoal, LoopStats, Observation, Plan
from wm_vla_ros.vla.slow_loop import SlowLoop
from wm_vla_ros.world_models.protocol import WorldModel


class Policy(Protocol):
    """The slow policy, as `vla.policy.SlowPolicy` is: sizes in control ticks, dt in seconds."""

    chunk_size: int
    n_action_steps: int
    dt: float

    def infer(
        self, images: dict[str, NDArray[np.uint8]], state: NDArray[np.float32], instruction: str
    ) -> NDArray[np.float32]: ...


def newer(kept: Observation | None, arrived: Observation) -> Observation:
    """The one that was made later: frames may arrive out of order."""
    return arrived if kept is None or arrived.stamp > kept.stamp else kept


class TwoLoops:
    """The slow policy infers without pause, `latency` seconds a time; the fast loop plans every tick.

    chunk: number of the policy's chunk whose goal is in force; 0 before the first.
    """

    def __init__(
        self,
        policy: Policy,
        model: WorldModel,
        spec: RobotSpec,
        latency: float,
        config: MpcConfig | None = None,
    ) -> None:
        self._slow = SlowLoop(policy, model, spec)
        self._model = model
        self._spec = spec
        self._latency = latency
        # Under virtual time the machine's own speed must not decide how much is planned.
        self._config = replace(config or MpcConfig(), deadline=float("inf"))
        self.stats: list[LoopStats] = []

    def start(self, task: Task) -> None:
        self._task = task
        self.core = MpcCore(self._model, self._spec, self._config)
        self._newest: Observation | None = None
        self.chunk = 0
        self._inferring: tuple[float, ActionChunk, LatentGoal] | None = None
        self.stats = []

    def on_observation(self, observation: Observation, now: float) -> None:
        self._newest = newer(self._newest, observation)
        self.core.on_observation(observation)

    def on_applied(self, applied: AppliedAction) -> None:
        self.core.on_applied(applied)

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        self.core.on_tip(tip, at)

    def tick(self, now: float) -> Plan | None:
        if self._inferring is not None and now >= self._inferring[0] - 1e-9:
            _, chunk, goal = self._inferring
            self._inferring = None
            self.core.on_chunk(chunk)
            with suppress(GoalRefused):  # took longer than it is valid: the arm holds
                self.core.on_goal(goal, now)
                self.chunk = chunk.sequence
        if self._inferring is None and self._newest is not None:
            inferred = self._slow.infer(self._newest, self._task.instruction)
            self._inferring = (now + self._latency, *inferred)
        result = self.core.tick(now)
        self.stats.append(result.stats)
        return result.plan


class PolicyAlone:
    """The slow policy as it is usually run: look, infer for `latency` seconds, execute, and again.

    It looks when its actions have run out; the arm holds meanwhile. chunk: number of the newest chunk.
    """

    def __init__(self, policy: Policy, spec: RobotSpec, latency: float) -> None:
        self._policy = policy
        self._spec = spec
        self._latency = latency

    def start(self, task: Task) -> None:
        self._task = task
        self._newest: Observation | None = None
        self._free_at = 0.0
        self._ready: tuple[float, NDArray[np.float32]] | None = None
        self.chunk = 0

    def on_observation(self, observation: Observation, now: float) -> None:
        self._newest = newer(self._newest, observation)

    def on_applied(self, applied: AppliedAction) -> None:
        """Nothing to predict: it acts on what it saw."""

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        """Not used."""

    def tick(self, now: float) -> Plan | None:
        seen, dt = self._newest, self._spec.dt
        if self._ready is None and seen is not None and seen.stamp >= self._free_at - 1e-9:
            actions = self._policy.infer(dict(seen.images), seen.proprio, self._task.instruction)
            self._ready = (now + self._latency, actions[: self._policy.n_action_steps])
        if self._ready is None or now < self._ready[0] - 1e-9:
            return None
        actions = self._ready[1]
        self._ready = None
        self.chunk += 1
        start = now - (now % dt) + dt
        self._free_at = start + len(actions) * dt
        # The stamp is the time of the look as far as the driver's age check goes: a synchronous policy
        # is as old as it is slow, and this evaluation is about what that costs, not about refusing it.
        return Plan(now, self.chunk, "mpc", start, dt, actions)

"""A fast loop around an exact arm: a driver that follows plans by time, a camera that sees late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from wm_vla_ros.goals.chunk_rollout import chunk_rollout
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.types import ActionChunk, AppliedAction, Observation, Plan

DT = 0.02
HOME = np.array([0.2, 0.0, 0.1])


def observation(stamp: float, tip) -> Observation:
    """What the linear model encodes: measured tip in the middle of an otherwise empty proprioception."""
    proprio = np.zeros(18, np.float32)
    proprio[12:15] = proprio[15:18] = tip
    return Observation(stamp, {}, proprio)


class Loop:
    """Virtual time in ticks. delay: seconds from a frame's stamp to its arrival. drift: m/s.

    stamp_on_arrival: pretend that a frame is as new as its arrival, as a planner without a belief does.
    """

    def __init__(
        self,
        core: MpcCore,
        scale: float,
        delay: float = 0.0,
        drift=(0.0, 0.0, 0.0),
        stamp_on_arrival: bool = False,
    ) -> None:
        self.core, self.scale, self.delay = core, scale, delay
        self.drift, self.stamp_on_arrival = np.array(drift), stamp_on_arrival
        self.late = 0.0  # of every tick, seconds
        self.tick, self.tip = 0, HOME.copy()
        self.plans: list[Plan] = []
        self.results, self.tips = [], [HOME.copy()]
        self._frames: list[tuple[float, np.ndarray]] = []

    @property
    def now(self) -> float:
        return self.tick * DT

    def run(self, ticks: int, every: Callable[[float], None] = lambda now: None, blind: bool = False) -> None:
        for _ in range(ticks):
            now = self.now
            self.core.on_tip(self.tip, now)
            if not blind:
                self._frames.append((now, self.tip.copy()))
            action = self._in_force(now)
            self.core.on_applied(AppliedAction(now, self.tick, "mpc", action, ("joint",), np.zeros(1)))
            self.tip = self.tip + action[:3] * self.scale + self.drift * DT
            self.tips.append(self.tip)
            later = now + 0.004  # the planner runs between two ticks of the driver
            while self._frames and self._frames[0][0] + self.delay <= later:
                stamp, tip = self._frames.pop(0)
                self.core.on_observation(observation(later if self.stamp_on_arrival else stamp, tip))
            every(later)
            self.results.append(self.core.tick(later, self.late))
            if self.results[-1].plan is not None:
                self.plans.append(self.results[-1].plan)
            self.tick += 1

    def _in_force(self, now: float) -> np.ndarray:
        for plan in reversed(self.plans):
            row = plan.index_at(now)
            if row is not None:
                return plan.actions[row]
        return np.zeros(7, np.float32)


@pytest.fixture(scope="session")
def make_core(linear_model, spec):
    """make_core(seed=, timer=, model=, **MpcConfig fields): a core on the linear model."""

    def make(seed: int = 0, timer=lambda: 0.0, model=linear_model, **settings) -> MpcCore:
        return MpcCore(model, spec, replace(MpcConfig(), **settings), seed, timer)

    return make


@pytest.fixture(scope="session")
def make_loop(make_core, spec):
    """make_loop(core=None, delay=, drift=, stamp_on_arrival=): a Loop at rest."""
    return lambda core=None, **settings: Loop(core or make_core(), spec.translation_scale, **settings)


@pytest.fixture(scope="session")
def aim(linear_model, spec):
    """aim(core, to, now, sequence, start): give the core a chunk from `start` to `to`, and its goal."""

    def aim(core: MpcCore, to, now: float, sequence: int = 1, start=HOME, horizon: int = 48) -> ActionChunk:
        way = np.asarray(to) - start
        steps = int(np.ceil(np.linalg.norm(way) / 0.003))
        actions = np.zeros((horizon, 7), np.float32)
        actions[:steps, :3] = way / steps / spec.translation_scale
        chunk = ActionChunk(now, sequence, "ee_delta", DT, actions)
        core.on_chunk(chunk)
        core.on_goal(chunk_rollout(linear_model, chunk, linear_model.latent(start), "go there"), now)
        return chunk

    return aim

"""A small simulated past: an arm that did what it was told, seen by a camera with known error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.belief.belief import Belief
from wm_vla_ros.belief.bias import BiasEstimator
from wm_vla_ros.types import AppliedAction


@dataclass
class Past:
    """Ticks 0..ticks-1 of random actions (ticks, 7); tips (ticks + 1, 3) before and after each."""

    spec: object
    ticks: int = 25
    seed: int = 0
    actions: np.ndarray = field(init=False)
    tips: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.actions = rng.uniform(-0.2, 0.2, (self.ticks, 7)).astype(np.float32)
        moved = np.cumsum(self.actions[:, :3] * self.spec.translation_scale, axis=0)
        self.tips = np.array([0.2, 0.0, 0.1]) + np.concatenate([np.zeros((1, 3)), moved])

    def at(self, tick: float) -> np.ndarray:
        """Tip (3,) in metres `tick` ticks after the start, between two of them too."""
        return np.array([np.interp(tick, np.arange(self.ticks + 1), axis) for axis in self.tips.T])

    def timeline(self) -> ActionTimeline:
        timeline = ActionTimeline(self.spec.dt)
        for tick, action in enumerate(self.actions):
            stamp = tick * self.spec.dt
            timeline.applied(AppliedAction(stamp, tick, "mpc", action, ("joint",), np.zeros(1)))
        return timeline


@pytest.fixture(scope="session")
def past(spec) -> type:
    """past(seed=..., ticks=...): a Past of this robot."""
    return lambda **kwargs: Past(spec, **kwargs)


@pytest.fixture(scope="session")
def make_belief(spec, linear_model):
    """make_belief(timeline, **settings): a belief without drift estimate."""

    def make(timeline: ActionTimeline, **settings) -> Belief:
        return Belief(linear_model, timeline, BiasEstimator(spec.translation_scale, spec.dt), **settings)

    return make

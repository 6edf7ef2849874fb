"""Plans with a model of a robot of which nothing is known but its recordings: towards a latent.

No fingertip, no kinematics, no limits of motion: the goal is a latent (of a goal image, of a recorded
moment), and an action stays within what was recorded.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.objective import Objective, Rollouts
from wm_vla_ros.planning.problem import PlanningProblem
from wm_vla_ros.planning.samplers import Solution
from wm_vla_ros.planning.search import Search
from wm_vla_ros.planning.warm_up import still_observation
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.protocol import WorldModel

# Of the sampler's noise, as a share of the recorded actions' deviation.
SIGMA = 0.5
_EMPTY = np.zeros((0, 0, 0), np.float32)


def recorded_config(manifest: Manifest) -> MpcConfig:
    """The planner's defaults, with noise and bounds from the recorded actions, and the latent as the goal.

    Raises ModelRefused for a model whose actions are a known robot's.
    """
    actions = manifest.actions
    if actions is None:
        raise ModelRefused(f"{manifest.name}: expected recorded actions, found {manifest.action_space}")
    sampler = replace(
        MpcConfig().sampler,
        sigma=tuple(SIGMA * spread for spread in actions.spread),
        lower=actions.low,
        upper=actions.high,
        horizon=manifest.horizon,
    )
    return MpcConfig(
        sampler=sampler,
        weight_tip=0.0,
        weight_objects=0.0,
        weight_workspace=0.0,
        weight_smoothness=0.0,
        weight_latent=1.0,
    )


class LatentPlanner:
    """One plan after another, each warm-started from the one before; reproducible from `seed`."""

    def __init__(self, model: WorldModel, config: MpcConfig | None = None, seed: int = 0) -> None:
        """config: None for `recorded_config`. Raises ValueError as `Objective` and `Search`."""
        self.config = config or recorded_config(model.manifest)
        self._model = model
        self._objective = Objective(self.config, model, self.config.sampler.horizon, None)
        self._search = Search(model, self._objective.terms, self.config, None, seed)
        self._plan: FloatArray | None = None

    def plan(self, latent: FloatArray, goal: FloatArray, previous: FloatArray) -> Solution:
        """The best actions (H, A) from `latent` (D,) towards the latents `goal`, (D,) or one a tick (H, D).

        previous: (A,) the action in force. Raises NoFiniteCost.
        """
        horizon = self.config.sampler.horizon
        path = np.broadcast_to(np.asarray(goal, np.float32), (horizon, self._model.latent_dim))
        asked = Rollouts(
            _EMPTY, previous, _EMPTY, _EMPTY, path, self._model.ground(path), 1.0, goal_latent=path[-1]
        )
        bounds = np.asarray(self.config.sampler.lower), np.asarray(self.config.sampler.upper)
        candidates = [np.clip(np.repeat(previous[None], horizon, axis=0), *bounds).astype(np.float32)]
        if self._plan is not None:
            candidates.append(np.concatenate([self._plan[1:], self._plan[-1:]]))
        last = np.repeat(previous[None], 2, axis=0)
        no_bias = np.zeros_like(previous)
        problem = PlanningProblem(self._model, self._objective, latent, no_bias, last, candidates, 1, asked)
        solution = self._search.solve(problem, lambda: False)
        self._plan = solution.actions
        return solution

    def cost(self, latent: FloatArray, goal: FloatArray, actions: FloatArray) -> float:
        """What actions (H, A) from `latent` cost by the planner's own objective, towards `goal` (D,)."""
        path = np.broadcast_to(goal, (len(actions), self._model.latent_dim))
        latents = self._model.rollout(latent[None], actions[None])
        grounded = self._model.ground(latents)
        asked = Rollouts(
            actions[None], actions[0], latents, grounded, path, grounded[0], 1.0, goal_latent=path[-1]
        )
        return float(self._objective.cost(asked)[0])


def time_plans(model: WorldModel, plans: int) -> NDArray[np.float64]:
    """ms of each of `plans` plans, after a few that warm up, all iterations run."""
    planner = LatentPlanner(model)
    seen = still_observation(model, 0.0)
    latent = model.encode(seen.images, seen.proprio)
    previous = np.zeros(model.action_dim, np.float32)
    taken = []
    for _ in range(plans + 5):
        began = time.perf_counter()
        planner.plan(latent, latent, previous)
        taken.append(1e3 * (time.perf_counter() - began))
    return np.array(taken[5:])

"""What one tick asks of the search: from where, along which path, beginning with which plans."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.goals.path import GroundedPath
from wm_vla_ros.goals.path_progress import PathProgress
from wm_vla_ros.planning.candidates import hold, shifted, ticks_since
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.objective import (
    Objective,
    Rollouts,
    actor_critic_of,
    chunk_motion,
    chunk_trust,
)
from wm_vla_ros.planning.preview import tip_preview
from wm_vla_ros.robots.linearised_arm import LinearisedArm
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import ActionChunk, FloatArray, Plan
from wm_vla_ros.world_models.actor_critic import ActorCritic
from wm_vla_ros.world_models.protocol import WorldModel

_NO_FUTURES = np.zeros((0, 0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when a tick plans.

    start: s, when its plan takes effect. latent: (D,) predicted for then. last: (2, A) the actions before,
    oldest first. bias: (A,) the drift, as an action. divergence: m, of the belief. chunk: of the path's goal,
    None without one. plan: the one before, or None. arm: about its last command, where the objective asks.
    """

    start: float
    latent: FloatArray
    last: FloatArray
    bias: FloatArray
    divergence: float
    path: GroundedPath
    chunk: ActionChunk | None
    plan: Plan | None
    arm: LinearisedArm | None


@dataclass(frozen=True, slots=True)
class PlanningProblem:
    """One tick's.

    latent: (D,) where plans start. bias: (A,) added to every action. last: (2, A) the actions before, oldest
    first. candidates: each (H, A), what the search starts from. shift: ticks since the last plan's start.
    asked: what futures are judged by, without any.
    """

    model: WorldModel
    objective: Objective
    latent: FloatArray
    bias: FloatArray
    last: FloatArray
    candidates: list[FloatArray]
    shift: int
    asked: Rollouts

    def imagine(self, actions: FloatArray) -> Rollouts:
        """The futures of actions (N, H, A), beside what they are judged by."""
        start = np.repeat(self.latent[None], len(actions), axis=0)
        latents = self.model.rollout(start, actions + self.bias)
        joints = None if self.asked.arm is None else self.asked.arm.joints(actions)
        grounded = self.model.ground(latents)
        return replace(self.asked, actions=actions, latents=latents, grounded=grounded, joints=joints)

    def cost(self, actions: FloatArray) -> NDArray[np.float64]:
        """(N,) of actions (N, H, A)."""
        return self.objective.cost(self.imagine(actions))


class Formulation:
    """Makes a `PlanningProblem` of each tick's `Situation`."""

    def __init__(self, model: WorldModel, spec: RobotSpec, config: MpcConfig) -> None:
        """Raises ValueError as `Objective`, and for an actor where the model has none."""
        self._model = model
        self._config = config
        self._tip = [model.grounding_names.index(f"tip.{axis}") for axis in "xyz"]
        self._preview = tip_preview(config, config.sampler.horizon, spec.translation_scale)
        self._actor = actor_critic_of(model, "actor_candidate") if config.actor_candidate else None
        self.objective = Objective(config, model, config.sampler.horizon, spec)

    def problem(self, now: Situation, progress: PathProgress) -> PlanningProblem:
        """progress: on the situation's path; it advances, so once per control tick."""
        path, config = now.path, self._config
        grounded = self._model.ground(now.latent[None])[0]
        tip = grounded[self._tip]
        at = progress.entered(path, tip, now.start)
        shift = path.shift(grounded, at) if config.follow_objects else np.zeros_like(grounded)
        at = progress.advance(path, tip - shift[self._tip])
        schedule = path.schedule(at, config.sampler.horizon)
        target_grounded, target_latents = path.points(schedule)
        target_grounded = target_grounded + shift
        chunk, trust = self._chunk(now, np.append(at, schedule))
        asked = Rollouts(
            _NO_FUTURES,
            now.last[1],
            _NO_FUTURES,
            _NO_FUTURES,
            target_latents,
            target_grounded,
            path.latent_weight,
            path.latents[-1],
            chunk,
            trust,
            arm=now.arm,
        )
        candidates = self._candidates(now, tip, target_grounded[:, self._tip], schedule)
        ticks = 0 if now.plan is None else ticks_since(now.plan, now.start)
        return PlanningProblem(
            self._model, self.objective, now.latent, now.bias, now.last, candidates, ticks, asked
        )

    def _candidates(
        self, now: Situation, tip: FloatArray, target: FloatArray, schedule: NDArray[np.float64]
    ) -> list[FloatArray]:
        """The path followed best, HOLD, the chunk itself, the last plan, what the actor would do.

        target: (H, 3) metres and schedule: (H,) path ticks, for a tip that is at `tip` (3,).
        """
        config, previous = self._config, now.last[1]
        horizon = config.sampler.horizon
        chunk = now.chunk if config.chunk_candidate else None
        rest = np.repeat(previous[None], horizon, axis=0)
        if chunk is not None:
            rows = np.minimum(schedule.astype(int), len(chunk.actions) - 1)
            rest = chunk.actions[rows]
        candidates = [self._preview(tip, target, previous + now.bias, rest) - now.bias, hold(rest)]
        if chunk is not None:
            candidates.append(rest - now.bias)
        if now.plan is not None:
            candidates.append(shifted(now.plan, now.start, horizon))
        if self._actor is not None:
            candidates.append(self._acted(self._actor, now))
        lower, upper = config.sampler.lower, config.sampler.upper
        return [np.clip(candidate, lower, upper).astype(np.float32) for candidate in candidates]

    def _acted(self, actor: ActorCritic, now: Situation) -> FloatArray:
        """(H, A) what the actor does in the world model on its way to the path's end, the drift taken off."""
        latent, goal = now.latent[None], now.path.latents[-1]
        actions = []
        for _ in range(self._config.sampler.horizon):
            actions.append(actor.act(latent, goal)[0])
            latent = self._model.predict(latent, actions[-1][None])
        return np.stack(actions) - now.bias

    def _chunk(self, now: Situation, at: NDArray[np.float64]) -> tuple[FloatArray | None, float]:
        """The chunk's motion (H, A) between the path ticks `at` (H + 1,), the drift taken off; its trust."""
        chunk, config = now.chunk, self._config
        if chunk is None or config.weight_chunk == 0.0:
            return None, 0.0
        age = now.start - chunk.stamp
        trust = chunk_trust(age, now.divergence, config.chunk_half_life, config.chunk_half_divergence)
        return chunk_motion(chunk.actions, at) - now.bias, trust

"""A fast loop fed with one still picture: for warming it up, and for timing it, before there is a graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wm_vla_ros.planning.mpc import SOURCE, MpcCore, TickResult
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import ActionChunk, AppliedAction, LatentGoal, Observation
from wm_vla_ros.world_models.protocol import WorldModel


def still_observation(model: WorldModel, stamp: float) -> Observation:
    """A black image of every camera and a proprioception of zeros, of the true shapes."""
    manifest = model.manifest
    images = {name: np.zeros((*size, 3), np.uint8) for name, size in manifest.cameras.items()}
    return Observation(stamp, images, np.zeros(len(manifest.proprio_names), np.float32))


def rehearse(
    core: MpcCore, model: WorldModel, spec: RobotSpec, ticks: int, phase: float = 0.0
) -> Iterator[TickResult]:
    """`ticks` ticks as they come in the loop, each after an observation, a chunk and a goal.

    phase: s from the driver's tick to the planner's. What the core has seen then is not of this world.
    """
    rest = np.zeros(model.action_dim, np.float32)
    actions = np.repeat(rest[None], 2 * core.config.sampler.horizon, axis=0)
    seen = still_observation(model, 0.0)
    path = np.repeat(model.encode(seen.images, seen.proprio)[None], len(actions), axis=0)
    for tick in range(ticks):
        now = 1.0 + tick * spec.dt
        core.on_applied(AppliedAction(now, tick, SOURCE, rest, spec.joint_names, spec.home))
        core.on_observation(Observation(now, seen.images, seen.proprio))
        core.on_chunk(ActionChunk(now, tick, model.manifest.action_space, spec.dt, actions))
        core.on_goal(LatentGoal(now, tick, "", model.encoder_id, path, spec.dt, 1.0), now)
        yield core.tick(now + phase)

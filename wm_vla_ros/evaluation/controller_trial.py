"""A linear controller on the simulated arm, beside doing nothing and doing anything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_vla_ros.data.simulated_arm import SimulatedArm
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.tasks import Task, task_for_seed
from wm_vla_ros.types import EE_ACTION_DIM, FloatArray
from wm_vla_ros.world_models.controller import MOST, OUTPUTS, Controller
from wm_vla_ros.world_models.protocol import WorldModel

# zero: no action. random: uniform over what the controller may do, drawn anew every tick.
BASELINES = ("zero", "random")
# Layouts that no training sees, and ticks from one image to the next, as in the recordings.
_FIRST_SEED, _FRAME_EVERY = 1000, 2

Act = Callable[[FloatArray, FloatArray], FloatArray]


def trial(
    model: WorldModel,
    robot: RobotSpec,
    controller: Controller,
    count: int,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, tuple[list[bool], list[float]]]:
    """By name of controller and baseline: success of `count` reaches, and metres left at the end of each.

    All see the same layouts. The goal is the cube where the model sees it in the newest image.
    """
    (height, width), *_ = model.manifest.cameras.values()
    arm = SimulatedArm(robot, width, height)
    rng = np.random.default_rng(0)

    def at_random(latent: FloatArray, goal: FloatArray) -> FloatArray:
        action = np.zeros(EE_ACTION_DIM, np.float32)
        action[:OUTPUTS] = rng.uniform(-MOST, MOST, OUTPUTS)
        return action

    actors: dict[str, Act] = {
        "controller": controller.act,
        "zero": lambda latent, goal: np.zeros(EE_ACTION_DIM, np.float32),
        "random": at_random,
    }
    out: dict[str, tuple[list[bool], list[float]]] = {name: ([], []) for name in actors}
    for number in range(count):
        seed = _FIRST_SEED + number
        task = task_for_seed("reach", seed)
        for name, act in actors.items():
            distance = _reach(arm, model, act, task, seed)
            out[name][0].append(distance < task.tolerance)
            out[name][1].append(distance)
        progress((number + 1) / count)
    return out


def _reach(arm: SimulatedArm, model: WorldModel, act: Act, task: Task, seed: int) -> float:
    """Metres left when the task is done or its time is over."""
    arm.reset(seed, task)
    goal_columns = [model.grounding_names.index(f"{task.cube}_cube.{axis}") for axis in "xyz"]
    cameras = tuple(model.manifest.cameras)
    latent = np.zeros(model.latent_dim, np.float32)
    for tick in range(round(task.time_limit / arm.spec.dt)):
        if arm.success(task):
            break
        if tick % _FRAME_EVERY == 0:
            latent = model.encode(arm.images(cameras), arm.proprio())
        else:
            latent = model.predict(latent[None], arm.executed[None])[0]
        arm.apply(act(latent, model.ground(latent)[goal_columns]))
    return task.distance(arm.world.tip(), arm.world.cubes(), arm.world.pads())

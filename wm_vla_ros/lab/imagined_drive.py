"""A policy that sees, infers and acts in a world model, over and over: what would come of driving with it.

A policy looks at images, and most families cannot draw. So the scene's own renderer shows what is imagined:
the arm, whose motion in free space is no question, where its simulated servos take it, and the cubes where
the world model says that they went. The arm has nothing to touch there: every contact is the world model's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.sequences import TIP, columns
from wm_vla_ros.judging.way_left import gap
from wm_vla_ros.rig.controllers import Policy
from wm_vla_ros.rig.simulated_arm import SimulatedArm
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.layout import REST_HEIGHT
from wm_vla_ros.tasks.task import CUBES, Task
from wm_vla_ros.types import EE_ACTION_DIM, FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

# Seconds that the arm stands and settles before the instruction is given, as in `evaluation.rig`.
_SETTLES = 0.3
# Where cubes lie that the simulated arm shall not touch, (3, 7).
_AWAY = np.array([[5.0, number, REST_HEIGHT, 1.0, 0.0, 0.0, 0.0] for number in range(len(CUBES))])


@dataclass(frozen=True, slots=True)
class Imagined:
    """success: whether the task was done in imagination; time: seconds until then, or the limit."""

    success: bool
    time: float


class ImaginedArm:
    """One arm in one scene, whose cubes are imagined. Not thread-safe."""

    def __init__(self, spec: RobotSpec, cameras: tuple[str, ...], size: tuple[int, int]) -> None:
        self._cameras = cameras
        self._arm = SimulatedArm(spec, size[1], size[0])

    def drive(
        self, seed: int, task: Task, policy: Policy, model: WorldModel, latency: float = 0.1
    ) -> Imagined:
        """The scene of `seed`, driven as `controllers.PolicyAlone` drives: chunks open loop, one by one.

        latency: seconds that the arm stands for every inference. Raises ValueError when the policy's period
        is not the model's, or the model does not ground what the task is about.
        """
        if abs(policy.dt - model.dt) > 1e-6:
            raise ValueError(f"the policy's period is {policy.dt} s, that of the world model {model.dt} s")
        arm, names, dt = self._arm, model.grounding_names, model.dt
        arm.reset(seed, task)
        self._cubes = arm.world.object_poses()
        self._hold(_SETTLES)
        now = 0.0
        while now < task.time_limit:
            images, state = self._look()
            scene = self._positions(names)
            chunk = policy.infer(images, state, task.instruction)[: policy.n_action_steps]
            latent = np.asarray(model.encode(images, state), np.float32)
            self._hold(latency)
            now += latency
            path = model.ground(model.rollout(latent[None], self._execute(chunk)[None]))[0]
            # What the encoder sees amiss of where things are is left out: the model says how they move.
            moved = scene + (path - model.ground(latent)).astype(np.float64)
            done = gap(task, names, moved) < task.tolerance
            if done.any() and now + int(np.argmax(done)) * dt < task.time_limit:
                return Imagined(True, now + int(np.argmax(done)) * dt)
            for number, cube in enumerate(CUBES):
                self._cubes[number, :2] = moved[-1, columns(names, f"{cube}_cube")[f"{cube}_cube"]][:2]
            now += len(chunk) * dt
        return Imagined(False, task.time_limit)

    def close(self) -> None:
        """Free the renderer."""
        self._arm.world.close()

    def _look(self) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]]:
        """What the camera would see, and the proprioception."""
        world = self._arm.world
        world.set_object_poses(self._cubes)
        world.forward()
        return {camera: world.render(camera).copy() for camera in self._cameras}, self._arm.proprio()

    def _execute(self, actions: FloatArray) -> FloatArray:
        """The actions (n, 7) that the arm really makes of these, with nothing in its way."""
        self._arm.world.set_object_poses(_AWAY)
        return np.stack([self._arm.apply(np.clip(action, -1.0, 1.0)) for action in actions])

    def _hold(self, seconds: float) -> None:
        ticks = round(seconds / self._arm.spec.dt)
        if ticks:
            self._execute(np.zeros((ticks, EE_ACTION_DIM), np.float32))

    def _positions(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """(G,) metres of everything that is grounded: as the picture shows it."""
        world = self._arm.world
        where = {
            TIP: world.tip(),
            **{f"{cube}_cube": pose[:3] for cube, pose in zip(CUBES, self._cubes, strict=True)},
            **{f"{pad}_pad": place for pad, place in world.pads().items()},
        }
        unknown = sorted({name.rpartition(".")[0] for name in names} - where.keys())
        if unknown:
            raise ValueError(f"the scene has no {unknown}, which the model grounds; it has {sorted(where)}")
        return np.array([where[name.rpartition(".")[0]]["xyz".index(name[-1])] for name in names])

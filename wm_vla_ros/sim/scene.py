"""The scene's MuJoCo model: the robot's own model, plus cubes, pads, light and cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wm_vla_ros.robots.model import robot_mjspec
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import CUBE_SIZE, CUBES, PADS

if TYPE_CHECKING:
    import mujoco

FRONT, WRIST = "front", "wrist"
PAD_RADIUS = 0.026
_COLOUR = {
    "red": (0.84, 0.12, 0.12, 1.0),
    "green": (0.10, 0.62, 0.22, 1.0),
    "blue": (0.12, 0.28, 0.86, 1.0),
    "yellow": (0.95, 0.80, 0.12, 1.0),
}
# A tripod across the table, looking down at the middle of the workspace.
_FRONT_POSITION, _FRONT_LOOKS_AT, _FRONT_FOVY = (0.53, 0.0, 0.50), (0.20, 0.0, 0.025), 32.0


def scene_model(spec: RobotSpec, timestep: float, width: int, height: int) -> mujoco.MjModel:
    """The compiled scene. timestep in seconds; width and height of offscreen images in pixels."""
    import mujoco

    scene = robot_mjspec(spec)
    scene.option.timestep = timestep
    scene.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    scene.visual.quality.offsamples = 0
    scene.visual.global_.offwidth = max(width, 640)
    scene.visual.global_.offheight = max(height, 480)
    scene.visual.headlight.active = 0
    # Links of the arm never touch each other in normal work: the action map keeps them apart.
    for geom in scene.geoms:
        if geom.name != "table" and geom.contype:
            geom.contype, geom.conaffinity = 2, 1
    table = scene.geom("table")
    table.contype, table.conaffinity = 1, 3
    _add_objects(scene)
    world = scene.worldbody
    world.add_light(name="lamp", pos=[0.2, 0.0, 1.2], dir=[0.0, 0.0, -1.0], castshadow=False)
    rotation = _look_at(np.array(_FRONT_POSITION), np.array(_FRONT_LOOKS_AT))
    world.add_camera(name=FRONT, pos=_FRONT_POSITION, quat=_quaternion(rotation), fovy=_FRONT_FOVY)
    mount = spec.cameras[WRIST]
    # A link's camera looks along its x axis with z up; MuJoCo's looks along -z with y up.
    forwards = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    scene.body(mount.frame).add_camera(name=WRIST, quat=_quaternion(forwards), fovy=mount.fovy)
    return scene.compile()


def _add_objects(scene: mujoco.MjSpec) -> None:
    import mujoco

    for name in PADS:
        body = scene.worldbody.add_body(name=f"{name}_pad", pos=[0.2, 0.0, 0.0])
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[PAD_RADIUS, 0.0006, 0.0],
            rgba=_COLOUR[name],
            contype=0,
            conaffinity=0,
        )
    half = CUBE_SIZE / 2
    for name in CUBES:
        body = scene.worldbody.add_body(name=f"{name}_cube", pos=[0.2, 0.0, half])
        body.add_freejoint(name=f"{name}_cube")
        body.add_geom(
            name=f"{name}_cube",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[half, half, half],
            rgba=_COLOUR[name],
            mass=0.02,
            friction=[0.6, 0.005, 0.0001],
            contype=1,
            conaffinity=3,
        )


def _look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of a camera at `position` that looks at `target` along its -z with y up."""
    backwards = position - target
    backwards /= np.linalg.norm(backwards)
    right = np.cross([0.0, 0.0, 1.0], backwards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(backwards, right), backwards], axis=1)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    import mujoco

    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    return quaternion

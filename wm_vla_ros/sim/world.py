"""SimWorld: the arm on its table with three cubes and two pads, stepped and rendered by MuJoCo."""

from __future__ import annotations

import atexit
import weakref

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.action_map import ActionMap, rotation_matrix
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.layout import REST_HEIGHT, Layout, sample_appearance, sample_layout
from wm_vla_ros.sim.scene import FRONT, WRIST, scene_model
from wm_vla_ros.tasks.task import CUBES, PADS, Task

TIMESTEP = 0.002
CAMERAS = (FRONT, WRIST)


class SimWorld:
    """Physics and cameras of one episode after another. Not thread-safe.

    width, height: size of rendered images in pixels. Rendering starts at the first `render`.
    """

    def __init__(
        self, spec: RobotSpec, seed: int = 0, task: Task | None = None, width: int = 96, height: int = 96
    ):
        import mujoco

        self._mujoco = mujoco
        self.spec = spec
        self.model = scene_model(spec, TIMESTEP, width, height)
        self.data = mujoco.MjData(self.model)
        self._renderer: mujoco.Renderer | None = None
        self._size = (height, width)
        model = self.model
        self._qpos = np.array([int(model.joint(name).qposadr[0]) for name in spec.joint_names])
        self._qvel = np.array([int(model.joint(name).dofadr[0]) for name in spec.joint_names])
        self._ctrl = np.array([int(model.actuator(name).id) for name in spec.joint_names])
        self._cube_qpos = {name: int(model.joint(f"{name}_cube").qposadr[0]) for name in CUBES}
        self._cube_body = {name: int(model.body(f"{name}_cube").id) for name in CUBES}
        self._pad_body = {name: int(model.body(f"{name}_pad").id) for name in PADS}
        self._tip_body = int(model.body(spec.tip_frame).id)
        self._camera = {name: int(model.camera(name).id) for name in CAMERAS}
        self._camera_rest = {
            name: (model.cam_pos[i].copy(), model.cam_quat[i].copy()) for name, i in self._camera.items()
        }
        self._map = ActionMap(spec)
        self.reset(seed, task)

    def reset(self, seed: int, task: Task | None = None) -> Layout:
        """Start the episode that `seed` and `task` describe; joints at rest with the tip at its start."""
        mujoco, model, data = self._mujoco, self.model, self.data
        layout = sample_layout(seed, task)
        mujoco.mj_resetData(model, data)
        joints = self._joints_at(layout.tip)
        data.qpos[self._qpos] = joints
        data.ctrl[self._ctrl] = joints
        for name, (x, y, yaw) in layout.cubes.items():
            at = self._cube_qpos[name]
            data.qpos[at : at + 7] = [x, y, REST_HEIGHT, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        for name, (x, y) in layout.pads.items():
            model.body_pos[self._pad_body[name]][:2] = (x, y)
        self.set_appearance(seed)
        mujoco.mj_forward(model, data)
        self.layout = layout
        return layout

    def set_appearance(self, seed: int) -> None:
        """Light, table colour and camera jitter of `seed`: how an episode looks, not where things lie."""
        mujoco, model, look = self._mujoco, self.model, sample_appearance(seed)
        model.light_pos[0] = look.light_position
        model.light_dir[0] = np.array([0.2, 0.0, 0.0]) - look.light_position
        model.light_diffuse[0] = look.light_diffuse
        model.light_ambient[0] = look.light_ambient
        model.geom_rgba[model.geom("table").id][:3] = look.table_rgb
        for name, index in self._camera.items():
            position, quaternion = self._camera_rest[name]
            if name == WRIST:  # it is screwed to the gripper: only the tripod camera is ever nudged
                continue
            model.cam_pos[index] = position + look.camera_shift
            turn = np.zeros(4)
            mujoco.mju_mat2Quat(turn, rotation_matrix(look.camera_turn).ravel())
            mujoco.mju_mulQuat(model.cam_quat[index], turn, quaternion)

    def step(self, substeps: int = 10) -> None:
        """Advance by `substeps` of 2 ms."""
        self._mujoco.mj_step(self.model, self.data, nstep=substeps)
        # mj_step ends with new joints and the bodies of 2 ms ago: what is seen belongs to one instant.
        self.forward()

    def set_targets(self, joints: NDArray[np.float64]) -> None:
        """Servo targets (n,) rad, in the spec's joint order. Raises ValueError unless n finite numbers.

        MuJoCo itself would zero every control when one is bad.
        """
        joints = np.asarray(joints, dtype=np.float64)
        if joints.shape != (self.spec.dof,) or not np.all(np.isfinite(joints)):
            raise ValueError(f"joint targets must be {self.spec.dof} finite numbers, got {joints}")
        self.data.ctrl[self._ctrl] = joints

    def joint_targets(self) -> NDArray[np.float64]:
        """Servo targets (n,) rad."""
        return self.data.ctrl[self._ctrl].copy()

    def joint_positions(self) -> NDArray[np.float64]:
        """Measured joints (n,) rad."""
        return self.data.qpos[self._qpos].copy()

    def joint_velocities(self) -> NDArray[np.float64]:
        """Measured joint velocities (n,) rad/s."""
        return self.data.qvel[self._qvel].copy()

    def set_joint_positions(self, joints: NDArray[np.float64]) -> None:
        """Put the arm at `joints` (n,) rad without physics: for a world that only renders."""
        self.data.qpos[self._qpos] = joints

    def set_tip(self, tip: NDArray[np.float64]) -> None:
        """Put the arm where its tip is at `tip` (3,) metres, tool pointing as at home, without physics.

        As near as it comes: look at `tip` afterwards.
        """
        joints = self._joints_at(np.asarray(tip, np.float64))
        self.set_joint_positions(joints)
        self.set_targets(joints)
        self.forward()

    def tip(self) -> NDArray[np.float64]:
        """Fingertip (3,) in metres, base frame."""
        return self.data.xpos[self._tip_body].copy()

    def cubes(self) -> dict[str, NDArray[np.float64]]:
        """Cube centres (3,) in metres by colour."""
        return {name: self.data.xpos[body].copy() for name, body in self._cube_body.items()}

    def pads(self) -> dict[str, NDArray[np.float64]]:
        """Pad centres (3,) in metres by colour."""
        return {name: self.model.body_pos[body].copy() for name, body in self._pad_body.items()}

    def object_state(self) -> NDArray[np.float32]:
        """Cube and pad centres in metres, laid out as `tasks.OBJECT_STATE_NAMES`."""
        return np.concatenate([*self.cubes().values(), *self.pads().values()]).astype(np.float32)

    def object_poses(self) -> NDArray[np.float64]:
        """Cubes, (3, 7): position in metres and quaternion (w, x, y, z), in the order of `tasks.CUBES`."""
        return np.stack([self.data.qpos[at : at + 7] for at in self._cube_qpos.values()])

    def set_object_poses(self, poses: NDArray[np.float64]) -> None:
        """The inverse of `object_poses`, without physics: for a world that only renders."""
        for at, pose in zip(self._cube_qpos.values(), poses, strict=True):
            self.data.qpos[at : at + 7] = pose

    def warnings(self) -> int:
        """How often MuJoCo warned of divergence (bad state or control) since the reset."""
        kind = self._mujoco.mjtWarning
        watched = (kind.mjWARN_BADQPOS, kind.mjWARN_BADQVEL, kind.mjWARN_BADQACC, kind.mjWARN_BADCTRL)
        return sum(int(self.data.warning[int(which)].number) for which in watched)

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Image (H, W, 3) of `camera`, RGB. Raises ValueError for an unknown camera, listing the others."""
        if camera not in self._camera:
            raise ValueError(f"unknown camera {camera!r}; valid: {', '.join(self._camera)}")
        if self._renderer is None:
            self._renderer = self._mujoco.Renderer(self.model, *self._size)
            # MuJoCo takes the GL library apart at exit: this comes before, because it is registered after.
            self._close_renderer = weakref.finalize(self, self._renderer.close)
            self._close_renderer.atexit = False
            atexit.register(self._close_renderer)
            flags = self._renderer.scene.flags
            # Half the cost of a frame on a CPU, and nothing that the models need.
            for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_HAZE", "mjRND_FOG"):
                flags[int(getattr(self._mujoco.mjtRndFlag, flag))] = 0
        self._renderer.update_scene(self.data, self._camera[camera])
        return self._renderer.render()

    def forward(self) -> None:
        """Recompute what follows from positions: after `set_joint_positions` or `set_object_poses`."""
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)

    def camera_pose(self, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Rotation (3, 3), position (3,) and fovy in degrees; the camera looks along its own -z, y is up."""
        index = self._camera[camera]
        rotation = self.data.cam_xmat[index].reshape(3, 3).copy()
        return rotation, self.data.cam_xpos[index].copy(), float(self.model.cam_fovy[index])

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._close_renderer()
            self._renderer = None

    def _joints_at(self, tip: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joints that put the tip at `tip`, tool pointing as at home."""
        self._map.reset(self.spec.home)
        tip_of = self._map.tip_position
        for _ in range(200):
            error = tip - tip_of(self._map.commanded)
            if np.linalg.norm(error) < 1e-4:
                break
            step = np.zeros(7, dtype=np.float32)
            step[:3] = np.clip(error / self.spec.translation_scale, -0.5, 0.5)
            self._map.commit(self._map.step(step, self._map.commanded))
        return self._map.commanded

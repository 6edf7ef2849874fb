"""The simulated cameras, in a process of their own so that a slow renderer cannot hold up the driver.

Renders what the driver says the world looks like: joint states and object poses of one instant, whose
stamp the image keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import yaml
from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.ros.pairing import Pairing
from wm_vla_ros.ros.spin import run
from wm_vla_ros.ros.time import NANO, stamp_key
from wm_vla_ros.scheduling import leave_a_core, request_fifo
from wm_vla_ros.settings import setting
from wm_vla_ros.sim.world import CAMERAS, SimWorld
from wm_vla_ros.tasks.task import from_instruction


@dataclass(frozen=True)
class CameraSettings(NodeSettings):
    """Which cameras, how large and how often."""

    robot: str = setting("", "robot spec, by name")
    cameras: tuple[str, ...] = setting(CAMERAS, "cameras to render", choices=CAMERAS)
    width: int = setting(96, "image width, pixels", low=16, high=1920)
    height: int = setting(96, "image height, pixels", low=16, high=1080)
    rate: float = setting(30.0, "images per second and camera, at most the driver's 50", low=1.0, high=50.0)
    realtime_priority: int = setting(
        5, "SCHED_FIFO priority, 0: none; a real camera does not wait for a processor either", low=0, high=99
    )


class FrameRate:
    """Picks frames out of a faster stream, `rate` a second on average. Stamps in ns."""

    def __init__(self, rate: float) -> None:
        self._period = NANO / rate
        self._due: float | None = None

    def wants(self, stamp: int) -> bool:
        """Whether the frame of `stamp` is to be taken. A clock that went back starts anew."""
        if self._due is None or stamp < self._due - 2 * self._period:
            self._due = stamp
        if stamp < self._due:
            return False
        self._due = max(self._due + self._period, stamp - self._period)
        return True


class SimCameraNode(ManagedNode[CameraSettings]):
    """Everything happens in the executor's thread, which owns the world and its GL context."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("sim_camera_node", CameraSettings, **kwargs)
        self._world: SimWorld | None = None

    def configure(self) -> None:
        settings = self.settings
        self._spec = load_robot(settings.robot)
        self._rate = FrameRate(settings.rate)
        self._scene: dict[str, Any] | None = None
        self._pairing = Pairing()
        self._outputs = {
            name: (
                self.create_publisher(Image, f"camera/{name}/image_raw", qos.IMAGE),
                self.create_publisher(CameraInfo, f"camera/{name}/camera_info", qos.LATEST),
            )
            for name in settings.cameras
        }
        self.create_subscription(String, "sim/scene", self._on_scene, qos.LATCHED)
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.STATE)
        self.create_subscription(PoseArray, "sim/objects", self._on_objects, qos.STATE)

    def activate(self) -> None:
        priority = self.settings.realtime_priority
        request_fifo(priority, priority, self.get_logger().warning)
        leave_a_core()

    def cleanup(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None

    def _on_scene(self, message: String) -> None:
        self._scene = yaml.safe_load(message.data)

    def _on_joints(self, message: JointState) -> None:
        self._render(self._pairing.first(message))

    def _on_objects(self, message: PoseArray) -> None:
        self._render(self._pairing.second(message))

    def _render(self, moment: tuple[JointState, PoseArray] | None) -> None:
        if moment is None or not self.active:
            return
        joints, objects = moment
        world = self._world_of_the_scene()
        if world is None or not self._rate.wants(stamp_key(objects.header.stamp)):
            return
        by_name = dict(zip(joints.name, joints.position, strict=True))
        world.set_joint_positions(np.array([by_name[name] for name in self._spec.joint_names]))
        world.set_object_poses(convert.poses_from_msg(objects))
        world.forward()
        self._publish(world, objects)

    def _world_of_the_scene(self) -> SimWorld | None:
        """The world as `sim/scene` last described it, or None before it was heard."""
        if self._scene is not None:
            layout_for = self._scene["layout_for"]
            scene = int(self._scene["seed"]), from_instruction(layout_for) if layout_for else None
            self._scene = None
            if self._world is None:
                size = self.settings.width, self.settings.height
                self._world = SimWorld(self._spec, *scene, *size)
            else:
                self._world.reset(*scene)
        return self._world

    def _publish(self, world: SimWorld, moment: PoseArray) -> None:
        stamp = moment.header.stamp
        height, width = self.settings.height, self.settings.width
        for name, (images, infos) in self._outputs.items():
            frame = f"{name}_camera"
            images.publish(convert.image_to_msg(world.render(name), stamp, frame))
            info = convert.camera_info(height, width, world.camera_pose(name)[2], frame)
            info.header.stamp = stamp
            infos.publish(info)


def main() -> NoReturn:
    """Entry point. The exit code says whether the node ended as it should."""
    run(SimCameraNode)


if __name__ == "__main__":
    main()

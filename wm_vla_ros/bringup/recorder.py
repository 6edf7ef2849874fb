"""Records what a running stack publishes about itself, as `Recording`: what benches, demo and cases judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import JointState

from wm_vla_msgs import msg as wm
from wm_vla_ros.bringup.client import StackClient
from wm_vla_ros.recording import Moment, Recording
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.pairing import Pairing
from wm_vla_ros.ros.time import StampConverter


class StackRecorder:
    """Fills `recording` from the client's thread.

    world: also record joints and objects, and call on_moment with each. plans: also record every plan.
    """

    def __init__(
        self,
        client: StackClient,
        spec: RobotSpec,
        *,
        world: bool = False,
        plans: bool = False,
        on_moment: Callable[[Moment], None] = lambda moment: None,
    ) -> None:
        self.recording = Recording()
        self._spec = spec
        self._stamps = StampConverter()
        self._on_moment = on_moment
        self._pairing = Pairing()
        stamps, record = self._stamps, self.recording

        def keep(items: list[Any], read: Callable[[Any, StampConverter], Any]) -> Callable[[Any], None]:
            return lambda message: items.append(read(message, stamps))

        client.listen(wm.LoopStats, "loop_stats", qos.HISTORY, keep(record.stats, convert.stats_from_msg))
        client.listen(
            wm.AppliedAction, "applied_action", qos.HISTORY, keep(record.applied, convert.applied_from_msg)
        )
        client.listen(wm.Fault, "faults", qos.FAULTS, keep(record.faults, convert.fault_from_msg))
        if plans:
            client.listen(wm.Plan, "plan", qos.EVERY_PLAN, keep(record.plans, convert.plan_from_msg))
        if world:
            client.listen(JointState, "joint_states", qos.STATE, self._on_joints)
            client.listen(PoseArray, "sim/objects", qos.STATE, self._on_objects)

    def _on_joints(self, message: JointState) -> None:
        self._keep(self._pairing.first(message))

    def _on_objects(self, message: PoseArray) -> None:
        self._keep(self._pairing.second(message))

    def _keep(self, pair: tuple[JointState, PoseArray] | None) -> None:
        if pair is None:
            return
        joints, objects = pair
        by_name = dict(zip(joints.name, joints.position, strict=True))
        moment = Moment(
            self._stamps.to_seconds(joints.header.stamp),
            np.array([by_name[name] for name in self._spec.joint_names]),
            convert.poses_from_msg(objects),
        )
        self.recording.moments.append(moment)
        self._on_moment(moment)

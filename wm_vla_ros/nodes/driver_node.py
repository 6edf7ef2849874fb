"""The arm in MuJoCo behind the safety gate: physics in real time, plans in, joint states out.

One thread advances the physics every 10 ms at absolute deadlines, and every 20 ms ticks the driver core and
publishes the joints; ROS callbacks run in another thread and hand over plans and requests.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from geometry_msgs.msg import PoseArray
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_vla_msgs import msg as wm
from wm_vla_ros.clock import FakeClock, MonotonicClock
from wm_vla_ros.drivers.base import SOURCE, DriverConfig, DriverCore, DriverState
from wm_vla_ros.drivers.mujoco import MujocoBackend
from wm_vla_ros.realtime import Beat, LatenessStats, Mailbox, ScaledClock, Ticker
from wm_vla_ros.robots.action_map import ActionMap
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.fault_output import FaultOutput
from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.ros.services import create_trigger
from wm_vla_ros.ros.spin import run
from wm_vla_ros.ros.time import StampConverter, no_offset_ns
from wm_vla_ros.ros.transport import wait_for_no_listener
from wm_vla_ros.safety.estop import default_latch_file
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.pace import APART
from wm_vla_ros.scheduling import keep_to_last_core, request_fifo, settle_heap
from wm_vla_ros.settings import setting
from wm_vla_ros.sim.world import TIMESTEP, SimWorld
from wm_vla_ros.tasks.task import from_instruction
from wm_vla_ros.types import AppliedAction, Severity

# Control ticks and joint states come every second step of the loop.
_STEPS_PER_TICK = 2
# SCHED_FIFO priority of every other thread of this process, where the control thread's is permitted.
_EXECUTOR_PRIORITY = 15
# Periods of physics that are made up for after a stall; a longer one is lost time.
_CATCH_UP = 50


@dataclass(frozen=True)
class DriverSettings(NodeSettings):
    """What the simulated arm can be told."""

    robot: str = setting("", "robot spec, by name")
    owner: str = setting("mpc", "source of the plans that may command the arm")
    seed: int = setting(0, "scene of the next sim/reset", low=0, high=2**31 - 1, live=True)
    layout_for: str = setting("", "instruction whose way the scene keeps free, or empty", live=True)
    speed: float = setting(1.0, "simulated seconds per second", low=0.05, high=20.0)
    publish_clock: bool = setting(False, "publish /clock; the other nodes then need use_sim_time")
    enable_at_start: bool = setting(True, "enable the arm when the node activates")
    keep_latch: bool = setting(True, "keep a latched e-stop across restarts")
    realtime_priority: int = setting(30, "SCHED_FIFO priority of the control thread, 0: none", low=0, high=99)


class DriverNode(ManagedNode[DriverSettings]):
    """Owns the world, which only the control thread touches once the node is active."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("driver_node", DriverSettings, **kwargs)
        self._mailbox = Mailbox()
        self._stop = threading.Event()

    def configure(self) -> None:
        settings = self.settings
        if settings.publish_clock:
            self.clock = ScaledClock(MonotonicClock(), settings.speed)
            self.stamps = StampConverter(no_offset_ns)
        elif settings.speed != 1.0:
            raise ValueError(
                f"speed {settings.speed} needs publish_clock: the others would run at another pace"
            )
        self._spec = spec = load_robot(settings.robot)
        self._world = SimWorld(spec, *self._scene())
        # The world's time is the deadline it was stepped to, however late the thread came to do it.
        self._world_time = FakeClock(self.clock.now())
        self._backend = MujocoBackend(self._world, self._world_time)
        self._create_publishers()
        self._faults = FaultOutput(self, self.clock, self.stamps, SOURCE, log_from=Severity.ERROR)
        self._core = DriverCore(
            spec,
            ActionMap(spec),
            self._backend,
            self.clock,
            self._faults.publish,
            self._publish_applied,
            owner=settings.owner,
            config=DriverConfig(latch_file=self._latch_file()),
        )
        self._lateness = LatenessStats()
        self._warnings = 0
        self._create_inputs()
        urdf = spec.urdf.read_text(encoding="utf-8")
        self._description.publish(String(data=urdf))
        self._publish_scene()

    def _create_publishers(self) -> None:
        publisher = self.create_publisher
        self._joints = publisher(JointState, "joint_states", qos.STATE)
        self._applied = publisher(wm.AppliedAction, "applied_action", qos.HISTORY)
        self._objects = publisher(PoseArray, "sim/objects", qos.STATE)
        self._scene_text = publisher(String, "sim/scene", qos.LATCHED)
        self._description = publisher(String, "robot_description", qos.LATCHED)
        if self.settings.publish_clock:
            self._clock_out = publisher(ClockMessage, "/clock", qos.CLOCK)

    def _create_inputs(self) -> None:
        self.create_subscription(wm.Plan, "plan", self._on_plan, qos.HEARD_PLANS)
        for name, work in (
            ("driver/estop", self._estop),
            ("driver/reset", self._reset),
            ("driver/enable", lambda: self._mailbox.ask(self._enable)),
            ("sim/reset", lambda: self._mailbox.ask(self._reset_scene)),
        ):
            create_trigger(self, name, work)

    def activate(self) -> None:
        self._stop.clear()
        self._mailbox.open()
        self._thread = threading.Thread(target=self.guard(self._loop), name="control")
        self._thread.start()
        if self.settings.enable_at_start:
            try:
                self._mailbox.ask(self._enable)
            except ValueError as error:  # latched in an earlier life, say: the node is up, the arm is not
                self.get_logger().error(f"not enabled: {error}; driver/reset and driver/enable do it")

    def deactivate(self) -> None:
        self._core.disable()
        self._stop.set()
        self._thread.join()
        self._mailbox.close()

    # The control thread.
    def _loop(self) -> None:
        priority = self.settings.realtime_priority
        if request_fifo(_EXECUTOR_PRIORITY, priority, self.get_logger().warning):
            keep_to_last_core()
        settle_heap()
        substeps = round(self._spec.dt / _STEPS_PER_TICK / TIMESTEP)
        ticker = Ticker(self.clock, self._spec.dt / _STEPS_PER_TICK)
        control = Beat(_STEPS_PER_TICK, APART * self._spec.dt)
        while not self._stop.is_set():
            step = ticker.wait()
            self._world.step(substeps * (1 + min(step.missed, _CATCH_UP)))
            self._world_time.sleep_until(step.deadline)
            self._mailbox.serve()
            # Converted once: messages of one instant are matched by equal stamps.
            stamp = self.stamps.to_stamp(step.deadline)
            if self.settings.publish_clock:
                self._clock_out.publish(ClockMessage(clock=stamp))
            if control.due(step.index, self.clock.now()):
                self._lateness.add(step.lateness, step.missed)
                self._core.tick()
                # Once a tick: a message costs each Python node that hears it a millisecond of its core.
                self._objects.publish(convert.poses_to_msg(self._world.object_poses(), stamp))
                joints = convert.joint_state_to_msg(self._backend.read(), self.stamps)
                joints.header.stamp = stamp
                self._joints.publish(joints)
            self._watch_physics()

    def _watch_physics(self) -> None:
        count = self._world.warnings()
        if count > self._warnings:
            self._warnings = count
            self._core.estop("physics", f"MuJoCo warned of divergence {count} time(s)")

    def _reset_scene(self) -> str:
        """A new scene under the arm: whatever was planned in the old one must not be executed."""
        enabled = self._core.state not in (DriverState.DISABLED, DriverState.LATCHED)
        self._core.disable()
        self._world.reset(*self._scene())
        self._warnings = 0
        if enabled:
            self._core.enable()
        self._publish_scene()
        return f"seed {self.settings.seed}"

    # Callbacks, in the executor's thread.
    def _on_plan(self, message: wm.Plan) -> None:
        try:
            plan = convert.plan_from_msg(message, self.stamps)
        except ValueError as error:
            self._faults.warn(FaultCode.SHAPE, f"plan {message.sequence} refused: {error}")
            return
        self._core.accept(plan, message.writer)

    def _estop(self) -> str:
        self._core.estop("service", "driver/estop was called")
        return "latched"

    def _reset(self) -> str:
        self._core.reset()
        return "reset, still disabled"

    def _enable(self) -> str:
        self._core.enable()
        return "enabled"

    # Called from either thread; publishing is thread-safe.
    def _publish_applied(self, applied: AppliedAction) -> None:
        self._applied.publish(convert.applied_to_msg(applied, self.stamps))

    def _publish_scene(self) -> None:
        scene = {"seed": self._world.layout.seed, "layout_for": self.settings.layout_for}
        self._scene_text.publish(String(data=yaml.safe_dump(scene)))

    def _scene(self) -> tuple[int, Any]:
        text = self.settings.layout_for
        return self.settings.seed, from_instruction(text) if text else None

    def _latch_file(self) -> Path | None:
        if not self.settings.keep_latch:
            return None
        robot = f"{self.get_namespace()}/{self.settings.robot}".strip("/").replace("/", ".")
        return default_latch_file(robot)

    def health(self) -> tuple[str, dict[str, object]]:
        values = {"state": self._core.state.value, **self._lateness.summary()}
        return self._core.estop_reason, values


def main() -> NoReturn:
    """Entry point. The exit code says whether the node ended as it should."""
    wait_for_no_listener()
    run(DriverNode)


if __name__ == "__main__":
    main()

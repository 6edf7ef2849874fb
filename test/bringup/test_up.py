"""`wm-vla up sim` with the shipped models: up, down, and what a death or a refusal looks like."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from wm_vla_ros import paths
from wm_vla_ros.bringup.runner import StackRunner
from wm_vla_ros.bringup.stack import CAMERAS, DRIVER, FAST, SLOW, StackSpec, stack_kind
from wm_vla_ros.clock import MonotonicClock
from wm_vla_ros.config import defaults
from wm_vla_ros.demo.run import Truth
from wm_vla_ros.recording import Recording
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.scheduling import fifo_permitted
from wm_vla_ros.tasks.task import from_instruction
from wm_vla_ros.types import Plan

pytestmark = [pytest.mark.graph, pytest.mark.slow]
EVERYONE = (DRIVER, CAMERAS, FAST, SLOW)
SPEC = load_robot(defaults().robot)
REACH, PUSH = "touch the red cube", "push the blue cube to the green pad"


def wait_until(condition, timeout: float, what: str) -> None:
    pause = threading.Event()
    for _ in range(round(timeout / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail(f"not within {timeout} s: {what}")


def threads(process: psutil.Process) -> list[str]:
    """Names of a process's threads; the middleware names its own by transport and port."""
    return [task.read_text().strip() for task in Path(f"/proc/{process.pid}/task").glob("*/comm")]


def moving(recording: Recording) -> bool:
    """Whether the last commands were a plan's, and moved the arm."""
    recent = recording.applied[-5:]
    if len(recent) < 5 or any(item.sequence < 0 for item in recent):
        return False
    return bool(np.abs(np.diff([item.joint_positions for item in recent], axis=0)).max() > 0.002)


def hold_after(recording: Recording, since: float) -> tuple[float, float] | None:
    """(last action of a plan, first of the hold) of the hold that began after `since`, s."""
    for before, after in pairwise(list(recording.applied)):
        if after.stamp > since and before.sequence >= 0 and after.sequence < 0:
            return before.stamp, after.stamp
    return None


@pytest.fixture
def watch(domain):
    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.bringup.recorder import StackRecorder

    with StackClient() as client:
        yield client, StackRecorder(client, SPEC, world=True).recording


def set_in_motion(client, recording: Recording) -> None:
    """Give instructions until the arm is in the middle of a motion."""
    for seed in range(5):
        client.reset_scene(seed, REACH)
        client.execute(REACH)
        try:
            wait_until(lambda: moving(recording), 10.0, "the arm moves")
        except pytest.fail.Exception:
            continue
        return
    pytest.fail("the arm did not move on five instructions")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_comes_up_and_ends_cleanly_without_an_orphan(up, watch, number):
    client, recording = watch
    stack = up()
    client.wait_until_active(EVERYONE, 150.0)
    nodes = stack.nodes()
    assert set(nodes) == set(EVERYONE)
    wait_until(lambda: len(recording.moments) > 50, 20.0, "joints and objects are published")
    # Who must be on time shares no memory with those who need not be.
    sharing = {name for name in nodes if any(thread.startswith("dds.shm") for thread in threads(nodes[name]))}
    assert sharing == {CAMERAS, SLOW}
    assert stack.end(number) == 0
    assert not [name for name, process in nodes.items() if process.is_running()]
    assert not [line for line in stack.lines if "Traceback" in line or "had to be ended" in line]


def test_killing_the_runner_itself_leaves_no_orphan(up):
    stack = up()
    stack.wait_until_active(*EVERYONE)
    nodes = stack.nodes()
    stack.process.kill()
    _, alive = psutil.wait_procs(nodes.values(), timeout=20.0)
    assert not [name for name, process in nodes.items() if process in alive]


def test_instructions_are_followed_refused_by_name_and_canceled(up, watch):
    """One stack, three instructions; and no torch in the fast loop's process while they run."""
    client, recording = watch
    stack = up()
    client.wait_until_active(EVERYONE, 150.0)
    libraries = Path(f"/proc/{stack.nodes()[FAST].pid}/maps").read_text()
    assert "libonnxruntime" in libraries
    assert "libtorch" not in libraries
    cores = {name: os.sched_getaffinity(process.pid) for name, process in stack.nodes().items()}
    assert cores[FAST] == os.sched_getaffinity(0)
    # Where SCHED_FIFO is permitted, the driver keeps to the core that those who need not be on time leave.
    assert cores[DRIVER] == ({max(cores[FAST])} if fifo_permitted() else cores[FAST])
    if len(cores[FAST]) > 1:
        assert cores[SLOW] == cores[CAMERAS] == cores[FAST] - {max(cores[FAST])}
    assert (stack.nodes()[SLOW].nice() > os.nice(0)) == (not fifo_permitted())

    refused = client.execute("dance")
    assert refused.result(20.0).outcome == "rejected"
    wait_until(
        lambda: any(REACH in fault.text for fault in recording.faults), 5.0, "the valid ones are named"
    )

    truth = Truth(SPEC)
    client.reset_scene(2001, REACH)
    truth.watch(from_instruction(REACH), 2001, since=0.0)
    heard: list = []
    outcome = client.execute(REACH, time_limit=20.0, on_feedback=heard.append).result(60.0)
    assert outcome.outcome == "succeeded"
    truth.on_moment(recording.moments[-1])
    assert truth.distance < 0.03
    assert 0.0 <= heard[-1].predicted_success <= 1.0
    assert heard[-1].distance < 0.03

    set_in_motion(client, recording)
    canceled = client.execute(PUSH)
    wait_until(lambda: moving(recording), 10.0, "the arm moves")
    canceled.cancel()
    assert canceled.result(20.0).outcome == "canceled"
    end = recording.applied[-1].stamp
    wait_until(lambda: hold_after(recording, end - 0.5) is not None, 5.0, "the driver holds")
    assert stack.end() == 0


@pytest.mark.parametrize("victim, longest", [(FAST, 3.0), (SLOW, 8.0)])
def test_a_killed_loop_is_reported_by_name_and_the_arm_holds(up, watch, victim, longest):
    """The planner's death shows once its last plan has run out; the slow loop's, once its goal has."""
    client, recording = watch
    stack = up()
    client.wait_until_active(EVERYONE, 150.0)
    set_in_motion(client, recording)
    nodes = stack.nodes()
    killed_at = recording.applied[-1].stamp
    nodes[victim].kill()
    stack.wait_for(f"[sim] {victim} was killed by SIGKILL", timeout=5.0)
    wait_until(lambda: hold_after(recording, killed_at) is not None, longest, "the driver holds")
    last, first = hold_after(recording, killed_at)
    assert first - last <= 0.1
    assert {"starved"} <= {fault.code for fault in recording.faults}
    assert stack.end() == 1
    assert not [name for name, process in nodes.items() if process.is_running()]


def test_a_dead_driver_ends_the_stack(up):
    stack = up()
    stack.wait_until_active(*EVERYONE)
    nodes = stack.nodes()
    nodes[DRIVER].kill()
    assert stack.process.wait(timeout=60.0) == 1
    stack.wait_for(f"cannot go on without {DRIVER}")
    assert not [name for name, process in nodes.items() if process.is_running()]


def test_a_checkpoint_with_a_flipped_bit_is_refused_when_the_node_configures(up, tmp_path):
    copy = tmp_path / defaults().world_model
    shutil.copytree(paths.models_dir() / defaults().world_model, copy)
    content = bytearray((copy / "step.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "step.onnx").write_bytes(content)
    stack = up("--world-model", str(copy))
    line = stack.wait_for("configure failed")
    assert "sha256 of step.onnx" in line
    assert stack.process.wait(timeout=60.0) == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--world-model", "none_such"), "unknown world model 'none_such'; available: "),
        (("--policy", "none_such"), "unknown policy 'none_such'; available: "),
        (("--robot", "none_such"), "unknown robot 'none_such'; available: "),
        (("--layout-for", "dance"), "unknown instruction 'dance'; valid: "),
        (("--width", "3"), "width"),
        (("--vla-latency", "-1"), "vla_latency"),
        (("--speed", "2"), "publish_clock"),
    ],
)
def test_bad_input_ends_the_stack_with_an_error_that_names_it(up, arguments, words):
    stack = up(*arguments)
    assert stack.process.wait(timeout=120.0) == 1
    stack.wait_for(words, timeout=5.0)


def test_a_checkpoint_of_another_robot_is_refused(up, tmp_path):
    copy = tmp_path / defaults().world_model
    shutil.copytree(paths.models_dir() / defaults().world_model, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["robot"] = "another"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    stack = up("--world-model", str(copy))
    assert "another" in stack.wait_for("configure failed")
    assert stack.process.wait(timeout=60.0) == 1


def part_of_the_stack(namespace: str, *names: str, **chosen) -> StackSpec:
    whole = stack_kind("sim").build(namespace, **chosen)
    return StackSpec(whole.name, whole.namespace, tuple(n for n in whole.nodes if n.name in names))


def test_two_namespaces_are_two_robots(domain):
    """Each has its own arm, scene and e-stop; what one is told, the other does not hear."""
    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.bringup.recorder import StackRecorder

    lines: list[str] = []
    left, right = (part_of_the_stack(name, DRIVER, seed=seed) for name, seed in (("left", 1), ("right", 2)))
    with (
        StackRunner(left, lines.append),
        StackRunner(right, lines.append),
        StackClient("left") as at_left,
        StackClient("right") as at_right,
    ):
        at_left.wait_until_active([DRIVER], 60.0)
        at_right.wait_until_active([DRIVER], 60.0)
        seen = {
            name: StackRecorder(client, SPEC, world=True).recording
            for name, client in (("left", at_left), ("right", at_right))
        }
        wait_until(lambda: all(len(r.moments) > 20 for r in seen.values()), 20.0, "both publish")
        first, second = (seen[name].moments[0].poses[:, :3] for name in ("left", "right"))
        assert np.abs(first - second).max() > 0.01
        at_left.trigger("driver/estop")
        wait_until(lambda: any(f.code == "estop" for f in seen["left"].faults), 5.0, "left is latched")
        known = len(seen["right"].applied)
        wait_until(lambda: len(seen["right"].applied) > known + 20, 5.0, "right goes on")
        assert not [fault for fault in seen["right"].faults if fault.code == "estop"]


def test_a_second_planner_is_alarmed_about_and_moves_nothing(domain):
    """Both say that they are "mpc"; only the first one's plans are executed.

    In a queue of one the second one's plans displaced the first one's, which then counted as silent.
    """
    from wm_vla_msgs import msg as wm
    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.bringup.recorder import StackRecorder
    from wm_vla_ros.ros import convert, qos
    from wm_vla_ros.ros.time import StampConverter

    with StackRunner(part_of_the_stack("", DRIVER), lambda line: None), StackClient() as client:
        client.wait_until_active([DRIVER], 60.0)
        recording = StackRecorder(client, SPEC).recording
        plans = client.node.create_publisher(wm.Plan, "plan", qos.LATEST)
        stamps, clock = StampConverter(), MonotonicClock()
        wait_until(lambda: plans.get_subscription_count() and recording.applied, 20.0, "the driver listens")

        def send(sequence: int, writer: str) -> None:
            now = clock.now()
            actions = np.zeros((10, 7))
            actions[:, 6] = 1.0
            plan = Plan(now, sequence, "mpc", now, SPEC.dt, actions)
            plans.publish(convert.plan_to_msg(plan, stamps, writer))

        for tick in range(25):
            send(tick, "first")
            clock.sleep_until(clock.now() + SPEC.dt)
        began = clock.now()
        for tick in range(25):
            send(100 + tick, "first")
            send(1000 + tick, "second")
            clock.sleep_until(clock.now() + SPEC.dt)
        wait_until(lambda: any(f.code == "foreign" for f in recording.faults), 2.0, "the alarm")
        alarm = next(fault.stamp for fault in recording.faults if fault.code == "foreign")
    assert alarm - began <= 0.35
    executed = {item.sequence for item in recording.applied}
    assert len(executed & set(range(200))) > 10
    assert not {sequence for sequence in executed if sequence >= 1000}


def test_who_comes_late_still_gets_robot_and_scene(domain):
    from std_msgs.msg import String

    from wm_vla_ros.bringup.client import StackClient
    from wm_vla_ros.ros import qos

    with StackRunner(part_of_the_stack("", DRIVER, seed=4), lambda line: None), StackClient() as client:
        client.wait_until_active([DRIVER], 60.0)
        told: dict[str, str] = {}
        for topic in ("robot_description", "sim/scene"):
            client.listen(
                String, topic, qos.LATCHED, lambda message, topic=topic: told.update({topic: message.data})
            )
        wait_until(lambda: len(told) == 2, 20.0, "both arrive")
    assert told["robot_description"] == SPEC.urdf.read_text(encoding="utf-8")
    assert yaml.safe_load(told["sim/scene"]) == {"seed": 4, "layout_for": ""}


def test_the_drivers_parameters_are_bounded_and_its_services_say_why_not(domain):
    from wm_vla_ros.bringup.client import StackClient

    with (
        StackRunner(part_of_the_stack("", DRIVER), lambda line: None),
        StackClient() as client,
    ):
        client.wait_until_active([DRIVER], 60.0)
        with pytest.raises(ValueError, match="out of range"):
            client.set_parameters(DRIVER, seed=-1)
        with pytest.raises(ValueError, match="read-only"):
            client.set_parameters(DRIVER, owner="me")
        client.set_parameters(DRIVER, seed=5)
        assert client.trigger("sim/reset") == "seed 5"
        client.set_parameters(DRIVER, layout_for="dance")
        with pytest.raises(ValueError, match="unknown instruction 'dance'"):
            client.trigger("sim/reset")
        assert client.trigger("driver/estop") == "latched"
        with pytest.raises(ValueError, match="latched"):
            client.trigger("driver/enable")
        client.trigger("driver/reset")
        assert client.trigger("driver/enable") == "enabled"


def test_a_driver_that_was_latched_comes_up_latched(domain):
    from wm_vla_ros.bringup.client import StackClient

    for restarted in (False, True):
        lines: list[str] = []
        with (
            StackRunner(part_of_the_stack("", DRIVER), lines.append),
            StackClient() as client,
        ):
            client.wait_until_active([DRIVER], 60.0)
            if not restarted:
                client.trigger("driver/estop")
                continue
            with pytest.raises(ValueError, match="latched before the driver was started"):
                client.trigger("driver/enable")
            client.trigger("driver/reset")
            assert client.trigger("driver/enable") == "enabled"
    assert any("not enabled" in line for line in lines)


def test_the_stack_runs_on_the_drivers_clock_at_half_the_pace(domain):
    """Cameras at 30 images a second of simulated time, whatever the time of day."""
    from wm_vla_ros.bringup.client import StackClient

    stack = part_of_the_stack("", DRIVER, CAMERAS, FAST, speed=0.5, use_sim_time=True)
    with StackRunner(stack, lambda line: None), StackClient() as client:
        from sensor_msgs.msg import CameraInfo, Image

        from wm_vla_ros.ros import qos

        images: list[float] = []
        infos: list[CameraInfo] = []
        client.listen(CameraInfo, "camera/front/camera_info", qos.LATEST, infos.append)
        client.listen(
            Image,
            "camera/front/image_raw",
            qos.IMAGE,
            lambda message: images.append(message.header.stamp.sec + message.header.stamp.nanosec * 1e-9),
        )
        client.wait_until_active([DRIVER, CAMERAS, FAST], 90.0)
        wait_until(lambda: len(images) > 40, 30.0, "images come")
        assert np.mean(np.diff(images[5:])) == pytest.approx(1 / 30, rel=0.2)
    assert (infos[-1].width, infos[-1].height) == (96, 96)
    assert infos[-1].k[0] == infos[-1].k[4] > 96

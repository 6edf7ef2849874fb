"""What this machine has and lacks for the stack, asked quickly and from outside.

Libraries that may break the process that loads them (middleware, OpenGL, CUDA) are tried in processes of
their own, all at once, so that the whole survey takes about as long as its slowest import.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from wm_vla_ros.scheduling import REALTIME_CURE, fifo_permitted

PROBE_TIMEOUT = 20.0
RENDER_PACKAGES = "libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0"
APT = "sudo apt-get install -y"
WHEELS_RMW = "rmw_fastrtps_cpp"
_SERIAL_GLOBS = ("ttyACM*", "ttyUSB*")
_LEFTOVER_SEGMENTS = 100


class FindingState(StrEnum):
    """OK: there. NOTE: absent or unusual, and the default goes on. LACK: something does not work."""

    OK = "ok"
    NOTE = "note"
    LACK = "lack"


@dataclass(frozen=True)
class Finding:
    """One line of the survey. mend: the command that mends a lack. required: nothing runs without it."""

    name: str
    state: FindingState
    found: str
    mend: str = ""
    required: bool = False

    def __post_init__(self) -> None:
        if self.state is FindingState.LACK and not self.mend:
            raise ValueError(f"finding {self.name!r} lacks something and names no command that mends it")


_ROS_PROBE = """
import json, time
import rclpy
from std_msgs.msg import Empty
from wm_vla_msgs.msg import Plan
rclpy.init()
node = rclpy.create_node("wm_vla_doctor")
heard = []
node.create_subscription(Empty, "~/probe", heard.append, 1)
publisher = node.create_publisher(Empty, "~/probe", 1)
start = time.monotonic()
while not heard and time.monotonic() < start + 3:
    publisher.publish(Empty())
    rclpy.spin_once(node, timeout_sec=0.05)
print(json.dumps({"rmw": rclpy.get_rmw_implementation_identifier(), "heard": bool(heard)}))
node.destroy_node()
rclpy.shutdown()
"""

_RENDER_PROBE = """
import json
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    image = renderer.render()
    from OpenGL import GL
    device = GL.glGetString(GL.GL_RENDERER)
print(json.dumps({"device": (device or b"").decode(), "contrast": float(image.std())}))
"""

_PROVIDER_PROBE = """
import json, os
import onnxruntime
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
wanted = os.environ["WM_VLA_PROVIDERS"].split(",")
if "CUDAExecutionProvider" in wanted:
    onnxruntime.preload_dlls()
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=wanted)
print(json.dumps({"version": onnxruntime.__version__, "providers": session.get_providers()}))
"""


def survey() -> tuple[Finding, ...]:
    """Every finding, in the order in which the pieces build on each other."""
    probes: tuple[Callable[[], Iterable[Finding]], ...] = (
        _python,
        _packages,
        _ros,
        _shared_memory,
        _rendering,
        _gpu,
        _processor,
        _real_time,
        _serial_ports,
        _build_tools,
    )
    with ThreadPoolExecutor(len(probes)) as pool:
        return tuple(finding for found in pool.map(lambda probe: tuple(probe()), probes) for finding in found)


def run_probe(script: str, environment: Mapping[str, str] | None = None) -> tuple[dict | None, str]:
    """Run `script` in a Python of its own.

    Returns (the JSON object on the last line of its output, "") or (None, its last error line).
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", script],  # -P: the working folder must not shadow a package
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            env=os.environ | dict(environment or {}),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {PROBE_TIMEOUT:.0f} s"
    if done.returncode == 0 and done.stdout.strip():
        return json.loads(done.stdout.strip().splitlines()[-1]), ""
    errors = done.stderr.strip().splitlines()
    return None, errors[-1] if errors else f"ended with code {done.returncode}"


def installed(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _python() -> Iterable[Finding]:
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info[:2] == (3, 12):
        yield Finding("python", FindingState.OK, found, required=True)
    else:
        yield Finding(
            "python", FindingState.LACK, f"{found}; Jazzy and the locks need 3.12", "make env", True
        )


def _packages() -> Iterable[Finding]:
    wanted = ("numpy", "mujoco", "mink", "lerobot", "torch")
    versions = {name: installed(name) for name in wanted}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        yield Finding("packages", FindingState.LACK, f"missing: {', '.join(missing)}", "make env", True)
    else:
        yield Finding(
            "packages", FindingState.OK, ", ".join(f"{n} {v}" for n, v in versions.items()), required=True
        )


def _ros() -> Iterable[Finding]:
    kind, mend = _ros_kind(os.environ)
    answer, error = run_probe(_ROS_PROBE)
    if answer is None:
        yield Finding("ros", FindingState.LACK, f"{kind}: {error}", mend, True)
        return
    launcher = "ros2 launch" if shutil.which("ros2") else "no ros2 command: `wm-vla up` starts the same stack"
    yield Finding("ros", FindingState.OK, f"{kind}, wm_vla_msgs; {launcher}", required=True)
    middleware = f"{answer['rmw']}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}"
    if answer["heard"]:
        yield Finding("middleware", FindingState.OK, middleware, required=True)
    else:
        mend = "unset ROS_DOMAIN_ID ROS_LOCALHOST_ONLY ROS_AUTOMATIC_DISCOVERY_RANGE"
        yield Finding(
            "middleware", FindingState.LACK, f"{middleware}: a message to itself was lost", mend, True
        )


def _ros_kind(environment: Mapping[str, str]) -> tuple[str, str]:
    """Where ROS comes from, and what to try first when it does not work."""
    wheels, distro = installed("ros-rclpy"), environment.get("ROS_DISTRO")
    if wheels and distro:
        return (
            f"wheels, rclpy {wheels}, under a sourced ROS 2 {distro}",
            "open a shell without ROS 2 sourced, or use a Python without the wheels",
        )
    if distro:
        return f"ROS 2 {distro} install", "colcon build && source install/setup.bash"
    if not wheels:
        return "no ROS 2", "make env msgs"
    kind = f"wheels, rclpy {wheels}"
    libraries = environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if str(Path(sys.prefix, "lib")) not in libraries:
        return f"{kind}, started from another environment's Python", "unset _ROS_WHEELS_BOOTSTRAP_COMPLETE"
    if environment.get("RMW_IMPLEMENTATION", WHEELS_RMW) != WHEELS_RMW:
        return f"{kind}, which have {WHEELS_RMW} only", "unset RMW_IMPLEMENTATION"
    return kind, "make env msgs"


def _shared_memory() -> Iterable[Finding]:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        yield Finding("shared memory", FindingState.LACK, "no /dev/shm", "sudo mount -t tmpfs tmpfs /dev/shm")
        return
    free = shutil.disk_usage(folder).free / 2**20
    leftovers = sum(1 for _ in folder.glob("fastrtps_*"))
    found = f"{free:.0f} MiB free in /dev/shm"
    if leftovers > _LEFTOVER_SEGMENTS:
        found += f"; {leftovers} segments of nodes that run or were killed"
        yield Finding(
            "shared memory", FindingState.NOTE, found, "with no node running: rm /dev/shm/fastrtps_*"
        )
    elif free < 128:
        yield Finding("shared memory", FindingState.LACK, found, "sudo mount -o remount,size=1G /dev/shm")
    else:
        yield Finding("shared memory", FindingState.OK, found)


def _rendering() -> Iterable[Finding]:
    chosen = os.environ.get("MUJOCO_GL")
    errors = []
    for library in (chosen,) if chosen else ("egl", "osmesa"):
        answer, error = run_probe(_RENDER_PROBE, {"MUJOCO_GL": library})
        if answer is not None and answer["contrast"] > 0:
            yield Finding("rendering", FindingState.OK, f"{library}, {answer['device']}", required=True)
            return
        errors.append(f"{library}: {error or 'an empty image'}")
    mend = f"unset MUJOCO_GL; {APT} {RENDER_PACKAGES}" if chosen else f"{APT} {RENDER_PACKAGES}"
    yield Finding("rendering", FindingState.LACK, "; ".join(errors), mend, True)


def _gpu() -> Iterable[Finding]:
    names = _gpu_names()
    found = ", ".join(names) or "none: everything runs on the CPU"
    yield Finding("gpu", FindingState.OK if names else FindingState.NOTE, found)
    if installed("onnxruntime") and installed("onnxruntime-gpu"):
        mend = "uv pip uninstall onnxruntime onnxruntime-gpu && rm .venv/.stamps/env && make env"
        yield Finding("onnx runtime", FindingState.LACK, "two builds overwrite each other", mend, True)
        return
    # The GPU build lists CUDA on every machine: only a session says what is really used.
    wanted = ["CUDAExecutionProvider"] * bool(names) + ["CPUExecutionProvider"]
    answer, error = run_probe(_PROVIDER_PROBE, {"WM_VLA_PROVIDERS": ",".join(wanted)})
    if answer is None:
        yield Finding("onnx runtime", FindingState.LACK, error, "make env", True)
        return
    used = [name.removesuffix("ExecutionProvider") for name in answer["providers"]]
    found = f"{answer['version']}, {', '.join(used)}"
    if len(used) < len(wanted):
        mend = "nvidia-smi  # its driver has to support CUDA 13"
        yield Finding("onnx runtime", FindingState.LACK, f"{found}: the GPU is not used", mend)
    else:
        yield Finding("onnx runtime", FindingState.OK, found, required=True)


def _gpu_names() -> list[str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        query = [command, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _processor() -> Iterable[Finding]:
    cores = len(os.sched_getaffinity(0))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    found = f"{cores} cores, {pages:.0f} GiB memory, load {os.getloadavg()[0]:.1f}"
    few = cores < 2 or pages < 6
    yield Finding(
        "processor",
        FindingState.NOTE if few else FindingState.OK,
        found + ("; 2 and 6 are needed" if few else ""),
    )


def _real_time() -> Iterable[Finding]:
    if fifo_permitted():
        yield Finding("real time", FindingState.OK, "SCHED_FIFO allowed")
        return
    yield Finding(
        "real time", FindingState.LACK, "SCHED_FIFO refused: a busy machine makes ticks late", REALTIME_CURE
    )


def _serial_ports(devices: Path = Path("/dev")) -> Iterable[Finding]:
    ports = sorted(port for pattern in _SERIAL_GLOBS for port in devices.glob(pattern))
    refused = [port.name for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if refused:
        mend = "sudo usermod -aG dialout $USER, then log in again"
        yield Finding("serial ports", FindingState.LACK, f"no permission: {', '.join(refused)}", mend)
    elif ports:
        yield Finding("serial ports", FindingState.OK, ", ".join(port.name for port in ports))
    else:
        yield Finding("serial ports", FindingState.NOTE, "none: the simulated arm needs none")


def _build_tools() -> Iterable[Finding]:
    tools = ("g++", "make", "cmake")
    beside_python = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}"
    missing = [tool for tool in tools if shutil.which(tool, path=beside_python) is None]
    if missing:
        words = " ".join(missing)
        yield Finding("build tools", FindingState.LACK, f"missing: {words}", f"{APT} {words}")
    else:
        yield Finding("build tools", FindingState.OK, ", ".join(tools))

"""Who may import what: the rules that keep the core usable without ROS and the fast path without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "wm_vla_ros"
ROS_PLACES = (f"{PACKAGE}.ros", f"{PACKAGE}.nodes", f"{PACKAGE}.drivers.ros2_control")
ROS_PACKAGES = (
    "rclpy",
    "rcl_interfaces",
    "launch",
    "launch_ros",
    "ament_index_python",
    "builtin_interfaces",
    "std_msgs",
    "std_srvs",
    "sensor_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "diagnostic_msgs",
    "trajectory_msgs",
    "rosgraph_msgs",
    "wm_vla_msgs",
)
HEAVY = ("torch", "torchvision", "transformers", "lerobot", "mujoco", "onnxruntime", "cv2", "matplotlib")
TRAINING_STACK = ("torch", "torchvision", "transformers", "lerobot", "datasets")
FAST_PATH = (
    "planning",
    "belief",
    "goals",
    "safety",
    "robots",
    "world_models.registry",
    "world_models.onnx_runtime",
    "world_models.onnx_shards",
    "world_models.onnx_gpu",
    "world_models.runtimes",
    "nodes.mpc_node",
    "nodes.driver_node",
    "nodes.sim_camera_node",
)

# Imports every module named on stdin with some packages blocked; prints {module: error} as JSON.
IMPORTER = """
import importlib, json, sys

blocked, modules = json.load(sys.stdin)

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocker())
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failed[module] = str(error)
loaded = sorted(name for name in sys.modules if "." not in name)
print(json.dumps({"failed": failed, "loaded": loaded}))
"""


def all_modules() -> list[str]:
    """Every module of the package, by file: nothing is imported to find it."""
    modules = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return modules


def inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def import_with_blocked(modules: list[str], blocked: tuple[str, ...]) -> dict:
    """{"failed": {module: error}, "loaded": top-level packages} of a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTER],
        input=json.dumps([blocked, modules]),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_everything_but_the_ros_places_imports_without_ros() -> None:
    modules = [module for module in all_modules() if not inside(module, ROS_PLACES)]
    for expected in ("belief", "planning", "safety", "world_models"):
        assert f"{PACKAGE}.{expected}" in modules
    assert import_with_blocked(modules, ROS_PACKAGES)["failed"] == {}


def test_the_blocker_blocks() -> None:
    """The other tests here prove nothing if a blocked package can still be imported."""
    module = f"{PACKAGE}.ros.convert"
    assert list(import_with_blocked([module], ROS_PACKAGES)["failed"]) == [module]


def test_the_fast_path_imports_without_the_training_stack() -> None:
    fast = tuple(f"{PACKAGE}.{name}" for name in FAST_PATH)
    modules = [module for module in all_modules() if inside(module, fast)]
    missing = [place for place in fast if not any(inside(module, (place,)) for module in modules)]
    assert missing == []
    assert import_with_blocked(modules, TRAINING_STACK)["failed"] == {}


def test_the_command_line_is_light_to_import() -> None:
    """`wm-vla --help` imports every command; torch at the top of one would cost all of them 4 s."""
    modules = [module for module in all_modules() if inside(module, (f"{PACKAGE}.commands",))]
    answer = import_with_blocked([f"{PACKAGE}.cli", *modules], ())
    assert answer["failed"] == {}
    assert sorted(set(answer["loaded"]) & {*HEAVY, "rclpy"}) == []


@pytest.mark.parametrize("module", ["types", "clock", "paths", "report"])
def test_shared_leaf_modules_load_nothing_heavy(module: str) -> None:
    answer = import_with_blocked([f"{PACKAGE}.{module}"], (*HEAVY, *ROS_PACKAGES))
    assert answer["failed"] == {}

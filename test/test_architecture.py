"""Who may import what: folders in the order of data flow, a core without ROS, a fast path without torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "wm_vla_ros"
ROS_PLACES = (
    f"{PACKAGE}.ros",
    f"{PACKAGE}.nodes",
    # What talks to a running stack from outside.
    *(f"{PACKAGE}.bringup.{name}" for name in ("client", "goal_sender", "launch", "recorder")),
    f"{PACKAGE}.bench.timer_baseline",
    f"{PACKAGE}.bench.transport_probe",
)
# Folders and top-level files, as data flow: each may import those before it, at its top, lazily or for types.
ORDER = (
    *("types", "clock", "paths", "files", "settings", "config", "processes", "scheduling", "realtime"),
    *("report", "delivery", "plotting", "recording", "progress", "machine"),
    *("tasks", "robots", "sensing", "safety", "sim", "drivers", "data"),
    *("world_models", "belief", "goals", "planning", "vla"),
    *("ros", "bringup", "nodes"),
    *("rig", "judging", "training", "bench", "baselines", "faults", "demo", "lab"),
    *("commands", "cli"),
)
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
    "rosgraph_msgs",
    "wm_vla_msgs",
)
HEAVY = ("torch", "torchvision", "transformers", "lerobot", "mujoco", "onnxruntime", "cv2", "matplotlib")
TRAINING_STACK = ("torch", "torchvision", "transformers", "lerobot", "datasets")
# The one part of `planning` that is for runtimes in torch.
ON_TORCH = f"{PACKAGE}.planning.on_device"
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
    modules = [m for m in all_modules() if inside(m, fast) and not inside(m, (ON_TORCH,))]
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


def imports_of(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, anywhere in it: a lazy import is an arrow, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if inside(name, (PACKAGE,)))


def module_graph() -> dict[str, set[str]]:
    """{module: the modules that it imports}, type-checking and lazy imports included."""
    modules = set(all_modules())

    def module_of(name: str) -> str:
        return name if name in modules else name.rpartition(".")[0]

    def path_of(module: str) -> Path:
        path = ROOT / module.replace(".", "/")
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    return {module: {module_of(name) for name in imports_of(path_of(module))} for module in modules}


def place(module: str) -> str:
    """The folder or top-level file that a module is in."""
    return module.split(".")[1] if "." in module else module


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Arrows from a place to one that comes after it in ORDER."""
    rank = {name: number for number, name in enumerate(ORDER)}
    return sorted(
        f"{module} -> {imported}"
        for module, all_imported in graph.items()
        for imported in all_imported - {PACKAGE}
        if module != PACKAGE and rank[place(module)] < rank[place(imported)]
    )


def test_folders_import_one_way() -> None:
    assert upward(module_graph()) == []


def test_the_order_names_every_place() -> None:
    assert sorted(ORDER) == sorted({place(module) for module in all_modules()} - {PACKAGE})


def test_an_arrow_upwards_is_seen() -> None:
    graph = {f"{PACKAGE}.safety.gate": {f"{PACKAGE}.lab.tsne"}, f"{PACKAGE}.lab.tsne": {f"{PACKAGE}.types"}}
    assert upward(graph) == [f"{PACKAGE}.safety.gate -> {PACKAGE}.lab.tsne"]


def test_a_lazy_import_counts(tmp_path: Path) -> None:
    file = tmp_path / "lazy.py"
    file.write_text(f"def use():\n    from {PACKAGE}.lab import tsne\n    return tsne\n")
    assert list(imports_of(file)) == [f"{PACKAGE}.lab.tsne"]


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter(module_graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_that_runs_needs_the_lab() -> None:
    needs = {
        module: sorted(name for name in found if place(name) == "lab")
        for module, found in module_graph().items()
        if place(module) not in ("lab", "commands", "cli")
    }
    assert {module: found for module, found in needs.items() if found} == {}

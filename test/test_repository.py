"""What the repository says about itself agrees with itself, and nothing in it belongs to one machine."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import setuptools

from wm_vla_ros import __version__, types

ROOT = Path(__file__).resolve().parents[1]
SLASH = "/"
# Assembled, so that this file does not hold what it forbids.
MACHINE_PATHS = re.compile(
    rf"(?<![\w.}}$]){SLASH}(?:work|root|tmp|opt{SLASH}(?:pypi|wheels|python)|home{SLASH}\w+)\b"
)
REGISTRIES = re.compile(
    r"pypi\.(?:org|python)|python" + r"hosted\.org|(?<!emit-)index-" + r"url|find-" + r"links", re.IGNORECASE
)
TEXT_SUFFIXES = (
    "", ".action", ".cff", ".cfg", ".cmake", ".in", ".lock", ".md", ".msg", ".py", ".sh", ".svg", ".toml",
    ".txt", ".urdf", ".xml", ".yaml", ".yml", ".json",
)  # fmt: skip
# Names that a ROS package is imported by; every one has to be a dependency in package.xml.
ROS_IMPORT = re.compile(r"^(?:\w+_msgs|rclpy|std_srvs|launch|launch_ros|ament_index_python|\w+_interfaces)$")
FROM_RCLPY = {"rcl_interfaces"}


def tracked_files() -> list[Path]:
    """Files under version control, and new ones that are not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return tracked_files()


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    captured: dict[str, Any] = {}
    original = setuptools.setup
    setuptools.setup = lambda **keywords: captured.update(keywords)
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
    return captured


def manifest(path: str) -> ET.Element:
    return ET.parse(ROOT / path).getroot()


def test_no_machine_paths_or_registry_addresses(files: list[Path]) -> None:
    found = []
    for path in files:
        if path.suffix not in TEXT_SUFFIXES or path.name == "LICENSE":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE_PATHS.search(line) or REGISTRIES.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize(
    "line, forbidden",
    [
        (f"cd {SLASH}work{SLASH}main", True),
        (f"log='{SLASH}tmp{SLASH}x'", True),
        ("https://host/workers", False),
        ("$prefix/root", False),
        ("/opt/ros/jazzy", False),
    ],
)
def test_machine_path_pattern(line: str, forbidden: bool) -> None:
    assert bool(MACHINE_PATHS.search(line)) is forbidden


def test_only_configuration_names_a_robot() -> None:
    """A second robot is added by files alone: code that knows one by name would not notice it."""
    names = [path.stem for path in (ROOT / "config/robots").glob("*.yaml")]
    sources = [path for folder in ("wm_vla_ros", "launch", "tools") for path in (ROOT / folder).rglob("*.py")]
    assert names
    assert [str(p) for p in sources for name in names if re.search(rf"\b{name}\b", p.read_text())] == []


def test_no_large_files_outside_models(files: list[Path]) -> None:
    large = [str(p.relative_to(ROOT)) for p in files if p.stat().st_size > 2**20 and "models" not in p.parts]
    assert large == []


def test_versions_agree(described: dict[str, Any]) -> None:
    versions = {manifest(p).findtext("version") for p in ("package.xml", "wm_vla_msgs/package.xml")}
    assert versions == {__version__, described["version"]}


def test_package_manifests_and_setup_agree(described: dict[str, Any]) -> None:
    package = manifest("package.xml")
    assert package.get("format") == "3"
    assert package.findtext("name") == described["name"]
    assert package.findtext("license") == described["license"] == "Apache-2.0"
    assert package.findtext("description") == described["description"]
    assert package.findtext("export/build_type") == "ament_python"
    assert package.findtext("maintainer") == described["maintainer"]


def test_entry_points_lead_to_functions(described: dict[str, Any]) -> None:
    scripts = dict(line.replace(" ", "").split("=") for line in described["entry_points"]["console_scripts"])
    for module, function in (target.split(":") for target in scripts.values()):
        path = ROOT / (module.replace(".", "/") + ".py")
        names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert function in names, f"{path} has no function {function}"


def test_every_node_has_an_executable(described: dict[str, Any]) -> None:
    nodes = {path.stem for path in (ROOT / "wm_vla_ros/nodes").glob("*_node.py")}
    scripts = {line.split(" ")[0] for line in described["entry_points"]["console_scripts"]}
    assert scripts == nodes | {"wm-vla"}


def test_every_package_is_installed(described: dict[str, Any]) -> None:
    """A folder without __init__.py is found from a checkout and missing from an install."""
    folders = {path.parent for path in (ROOT / "wm_vla_ros").rglob("*.py")}
    assert {str(folder.relative_to(ROOT)).replace("/", ".") for folder in folders} == set(
        described["packages"]
    )


def test_shared_files_are_installed(described: dict[str, Any]) -> None:
    installed = {file for _, files in described["data_files"] for file in files}
    for expected in (
        "package.xml",
        "resource/wm_vla_ros",
        "config/robots/so101.yaml",
        "launch/sim.launch.py",
    ):
        assert expected in installed
    for folder, names in described["data_files"]:
        for name in names:
            if folder.startswith("share/wm_vla_ros/"):
                assert folder == f"share/wm_vla_ros/{Path(name).parent}"


def test_ros_imports_are_dependencies() -> None:
    package = manifest("package.xml")
    declared = {tag.text for tag in package if tag.tag in ("depend", "exec_depend")}
    imported: dict[str, Path] = {}
    for folder in ("wm_vla_ros", "launch"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    names = [node.module]
                imported |= {name.partition(".")[0]: path for name in names}
    ros = {name: path for name, path in imported.items() if ROS_IMPORT.match(name)}
    assert {name: path for name, path in ros.items() if name not in declared | FROM_RCLPY} == {}


def test_every_interface_file_is_generated() -> None:
    listed = set(
        re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', (ROOT / "wm_vla_msgs/CMakeLists.txt").read_text())
    )
    package = ROOT / "wm_vla_msgs"
    there = {
        str(p.relative_to(package)) for kind in ("msg", "srv", "action") for p in package.glob(f"{kind}/*")
    }
    assert listed == there


@pytest.mark.parametrize("name", ["LatentGoal", "ActionChunk", "Plan", "AppliedAction", "LoopStats", "Fault"])
def test_messages_carry_the_fields_of_their_types(name: str) -> None:
    """`stamp` travels in the header; every other field keeps its name, so conversion is one line."""
    text = (ROOT / f"wm_vla_msgs/msg/{name}.msg").read_text()
    carried = set(re.findall(r"^[\w/\[\]]+ +(\w+)$", text, re.MULTILINE))
    wanted = {field.name for field in fields(getattr(types, name))} - {"stamp"}
    assert wanted - carried == set()


def locked(path: Path) -> dict[str, str]:
    """{package: version}; fails on a line that is anything but name==version."""
    versions = {}
    for line in path.read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.+!]+", line), f"{path.name}: {line}"
        name, _, version = line.partition("==")
        versions[name] = version
    return versions


def test_locks_hold_versions_only_and_agree() -> None:
    core, dev = locked(ROOT / "requirements/core.lock"), locked(ROOT / "requirements/dev.lock")
    assert {
        name: (core[name], dev[name]) for name in core.keys() & dev.keys() if core[name] != dev[name]
    } == {}


def test_exactly_one_onnx_runtime_is_locked() -> None:
    core = locked(ROOT / "requirements/core.lock")
    assert len(core.keys() & {"onnxruntime", "onnxruntime-gpu"}) == 1


def test_requirements_are_in_the_locks() -> None:
    for name in ("core", "dev"):
        versions = locked(ROOT / f"requirements/{name}.lock")
        for line in (ROOT / f"requirements/{name}.in").read_text().splitlines():
            wanted = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?(==(\S+))?", line)
            if not wanted or line.startswith(("#", "-")):
                continue
            version = versions.get(wanted[1].lower().replace("_", "-"))
            assert version is not None, f"{name}.lock has no {wanted[1]}"
            assert wanted[3] in (None, version), (
                f"{name}.lock has {wanted[1]} {version}, {name}.in says {wanted[3]}"
            )

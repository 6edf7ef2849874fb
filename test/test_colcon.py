"""colcon builds the workspace, and what it installs runs without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The compiler needs 20 s alone and minutes beside other work.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PACKAGES = ("wm_vla_ros", "wm_vla_msgs")
SOURCES = (*PACKAGES, "resource", "launch", "config", "urdf", "models", "tools")
FILES = ("package.xml", "setup.py", "setup.cfg", "colcon_defaults.yaml")


def environment() -> dict[str, str]:
    """What `source /opt/ros/<distro>/setup.bash` gives on a ROS 2 install, for the wheels in this prefix."""
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": sys.prefix,
        "CMAKE_PREFIX_PATH": sys.prefix,
        "COLCON_LOG_LEVEL": "warning",
    }


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, built."""
    if os.environ.get("ROS_DISTRO"):
        pytest.skip("a ROS 2 install is sourced: colcon was the way in")
    folder = tmp_path_factory.mktemp("workspace") / "src"
    folder.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    cmake = [f"-DPython3_EXECUTABLE={sys.executable}", "-DBUILD_TESTING=OFF"]
    cmake.append(f"-DCMAKE_PROJECT_INCLUDE={folder / 'tools/wheels.cmake'}")
    run(["colcon", "build", "--event-handlers", "console_cohesion+", "--cmake-args", *cmake], folder)
    return folder


def test_colcon_finds_both_packages(workspace: Path) -> None:
    """A root package.xml hides nested packages; colcon_defaults.yaml brings them back."""
    assert sorted(run(["colcon", "list", "--names-only"], workspace).split()) == sorted(PACKAGES)


def test_what_ros2_run_and_ros2_launch_look_for_is_installed(workspace: Path) -> None:
    prefix = workspace / "install/wm_vla_ros"
    executables = {path.name for path in (prefix / "lib/wm_vla_ros").iterdir()}
    assert executables == {path.stem for path in (ROOT / "wm_vla_ros/nodes").glob("*_node.py")} | {"wm-vla"}
    for name in ("package.xml", "launch/sim.launch.py", "config/robots/so101.yaml"):
        assert (prefix / "share/wm_vla_ros" / name).is_file()
    assert (prefix / "share/ament_index/resource_index/packages/wm_vla_ros").is_file()
    messages = workspace / "install/wm_vla_msgs/share/wm_vla_msgs"
    assert (messages / "msg/Plan.msg").is_file()
    assert (messages / "action/ExecuteInstruction.action").is_file()


def test_the_installed_package_uses_its_own_files(workspace: Path) -> None:
    prefix = workspace / "install/wm_vla_ros"
    (site,) = prefix.glob("lib/python3*/site-packages")
    script = "from wm_vla_ros import paths; print(paths.share_dir())"
    script = f"import sys; sys.path.insert(0, {str(site)!r}); {script}"
    assert run([sys.executable, "-P", "-c", script], workspace).strip() == str(prefix / "share/wm_vla_ros")

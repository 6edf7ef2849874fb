"""ament_python package description; requirements/ holds the versions that run without a ROS 2 install."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "wm_vla_ros"
ROOT = Path(__file__).resolve().parent
SHARE = Path("share") / NAME
NODES = ("driver_node", "sim_camera_node", "mpc_node", "vla_node")
SHARED_FOLDERS = ("launch", "config", "urdf", "models")


def version() -> str:
    """The one version number, read without importing the package."""
    match = re.search(r'__version__ = "([^"]+)"', (ROOT / NAME / "__init__.py").read_text())
    if match is None:
        raise ValueError(f"{NAME}/__init__.py has no __version__")
    return match.group(1)


def shared_files() -> list[tuple[str, list[str]]]:
    """(folder under the prefix, files) for everything that is found through share/wm_vla_ros at run time."""
    folders: dict[str, list[str]] = {}
    for folder in SHARED_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT)
                folders.setdefault(str(SHARE / relative.parent), []).append(str(relative))
    return sorted(folders.items())


setup(
    name=NAME,
    version=version(),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(SHARE), ["package.xml"]),
        *shared_files(),
    ],
    package_data={NAME: ["py.typed"]},
    python_requires=">=3.12",
    install_requires=["setuptools"],
    extras_require={"test": ["pytest", "hypothesis"]},
    zip_safe=False,
    maintainer="wm_vla_ros maintainers",
    maintainer_email="maintainers@users.noreply.github.com",
    description="A robot arm controlled by a slow VLA policy and a fast world-model MPC on ROS 2",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "wm-vla = wm_vla_ros.cli:main",
            *(f"{node} = wm_vla_ros.nodes.{node}:main" for node in NODES),
        ],
    },
)

"""Where the files that travel with the package are, however it was installed.

A checkout (also an editable install and `colcon build --symlink-install`) keeps config/, urdf/, launch/
and models/ beside the package; a pip or colcon install puts them in <prefix>/share/wm_vla_ros.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = "wm_vla_ros"


def share_dir(package_dir: Path | None = None) -> Path:
    """The folder that holds config/, urdf/, launch/ and models/.

    package_dir: folder of the imported package; given by tests only. The nearest ancestor wins, so an
    install inside a checkout (.venv/, install/) uses its own files. Raises FileNotFoundError when there
    is none.
    """
    start = (package_dir or Path(__file__).parent).resolve()
    for ancestor in start.parents:
        installed = ancestor / "share" / PACKAGE
        if (installed / "package.xml").is_file():
            return installed
        if (ancestor / "package.xml").is_file() and (ancestor / PACKAGE).is_dir():
            return ancestor
    raise FileNotFoundError(
        f"no folder above {start} holds package.xml or share/{PACKAGE}/package.xml: "
        f"install {PACKAGE} with pip or colcon, or run it from a checkout"
    )


def config_dir() -> Path:
    """Node parameters, robot specs, middleware profiles."""
    return share_dir() / "config"


def urdf_dir() -> Path:
    """Robot descriptions."""
    return share_dir() / "urdf"


def launch_dir() -> Path:
    """Launch files."""
    return share_dir() / "launch"


def models_dir() -> Path:
    """Trained models that are shipped, one folder each."""
    return share_dir() / "models"

"""Shared files are found from a checkout, a pip install and a colcon install."""

from __future__ import annotations

from pathlib import Path

import pytest

from wm_vla_ros import paths

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, *names: str) -> Path:
    """A folder that holds the named empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_checkout() -> None:
    assert paths.share_dir(ROOT / "wm_vla_ros") == ROOT
    for folder in (paths.config_dir(), paths.urdf_dir(), paths.launch_dir(), paths.models_dir()):
        assert folder.is_dir()


@pytest.mark.parametrize("site", ["lib/python3.12/site-packages", "local/lib/python3.12/dist-packages"])
def test_installed_under_a_prefix(tmp_path: Path, site: str) -> None:
    make(tmp_path, "share/wm_vla_ros/package.xml", f"{site}/wm_vla_ros/__init__.py")
    assert paths.share_dir(tmp_path / site / "wm_vla_ros") == tmp_path / "share/wm_vla_ros"


def test_an_install_inside_a_checkout_uses_its_own_files(tmp_path: Path) -> None:
    """colcon's install/ lies in the workspace, which may be the checkout: editing there must not leak in."""
    make(tmp_path, "package.xml", "wm_vla_ros/__init__.py")
    install = make(
        tmp_path / "install/wm_vla_ros", "share/wm_vla_ros/package.xml", "lib/x/wm_vla_ros/__init__.py"
    )
    assert paths.share_dir(install / "lib/x/wm_vla_ros") == install / "share/wm_vla_ros"
    assert paths.share_dir(tmp_path / "wm_vla_ros") == tmp_path


def test_colcon_symlinks_lead_to_the_checkout(tmp_path: Path) -> None:
    checkout = make(tmp_path / "src", "package.xml", "wm_vla_ros/__init__.py")
    build = make(tmp_path / "build", "readme")
    (build / "wm_vla_ros").symlink_to(checkout / "wm_vla_ros")
    assert paths.share_dir(build / "wm_vla_ros") == checkout


def test_nowhere_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    make(tmp_path, "wm_vla_ros/__init__.py")
    with pytest.raises(FileNotFoundError, match="install wm_vla_ros"):
        paths.share_dir(tmp_path / "wm_vla_ros")

"""The scripts behind the Makefile."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"


def bash(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("bash") or "bash", str(script), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_find_python_prints_a_python_3_12() -> None:
    path = bash(
        TOOLS / "find_python.sh", PYTHON=getattr(sys, "_base_executable", sys.executable)
    ).stdout.strip()
    version = [path, "-c", "import sys; print(*sys.version_info[:2])"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.split() == ["3", "12"]


def test_missing_system_packages_are_named_with_the_command(tmp_path: Path) -> None:
    """On a machine without a compiler the build used to end in a CMake error about CMAKE_CXX_COMPILER."""
    for name in ("ldconfig", "grep"):
        found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/sbin{os.pathsep}/usr/sbin")
        (tmp_path / name).symlink_to(found or "")
    done = bash(TOOLS / "check_system.sh", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "apt-get install -y g++ make" in done.stderr
    assert bash(TOOLS / "check_system.sh", "--list", PATH=str(tmp_path)).stdout.split()[:2] == ["g++", "make"]


def test_this_machine_has_what_the_check_asks_for() -> None:
    done = bash(TOOLS / "check_system.sh")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_early_in_a_long_list_is_not_taken_for_missing(tmp_path: Path) -> None:
    """As when ldconfig is still printing after the match was read, which a busy machine makes likely."""
    names = "libEGL.so.1 libGL.so.1 libOpenGL.so.0 libEGL_mesa.so.0"
    ldconfig = tmp_path / "ldconfig"
    ldconfig.write_text(
        f"#!/bin/bash\nset -e\nprintf '%s\\n' {names}\nprintf 'liblong.so.%d\\n' {{1..50000}}\n"
    )
    ldconfig.chmod(0o755)
    done = bash(TOOLS / "check_system.sh", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_environment_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    """A second `make demo` starts in seconds: the stamp holds the hash of everything that was installed."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to("/bin/false")
    (venv / ".stamps").mkdir()
    inputs = [TOOLS / "make_env.sh", *sorted((ROOT / "requirements").glob("*.lock"))]
    inputs += [ROOT / "setup.py", ROOT / "setup.cfg", ROOT / "wm_vla_ros/__init__.py"]
    content = b"".join(path.read_bytes() for path in inputs)
    key = (
        subprocess.run(["sha256sum"], input=content, capture_output=True, check=True)
        .stdout.split()[0]
        .decode()
    )
    (venv / ".stamps/env").write_text(key + "\n")
    done = bash(TOOLS / "make_env.sh", str(venv))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_folder_that_is_no_environment_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    done = bash(TOOLS / "make_env.sh", str(tmp_path))
    assert done.returncode == 1
    assert "not a virtual environment" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


@pytest.mark.parametrize(
    "body, wanted",
    [
        ("def test_a(): pass\ndef test_b(): assert 0\n", {"passed": 1, "failed": 1}),
        ("import pytest\ndef test_a(): pytest.skip('x')\n", {"skipped": 1}),
        ("import nothing_of_this_name\n", {"error": 1}),
    ],
)
def test_the_sum_of_both_test_runs_counts_every_outcome(tmp_path: Path, body: str, wanted: dict) -> None:
    """A collection error that is counted as nothing would let a broken test file pass."""
    test = tmp_path / "test_sample.py"
    test.write_text(body)
    junit = tmp_path / "junit.xml"
    pytest_alone = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull]
    subprocess.run(
        [*pytest_alone, f"--junitxml={junit}", test], cwd=tmp_path, capture_output=True, check=False
    )
    outcomes = runpy.run_path(str(TOOLS / "run_tests.py"))["outcomes"]
    assert {word: count for word, count in outcomes(junit).items() if count} == wanted

"""The survey of the machine: what is lacking is named with what mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wm_vla_ros import cli, machine
from wm_vla_ros.commands import doctor
from wm_vla_ros.machine import Finding, FindingState


def test_a_lack_without_a_remedy_is_a_bug() -> None:
    with pytest.raises(ValueError, match="'gpu' lacks"):
        Finding("gpu", FindingState.LACK, "none")


@pytest.mark.parametrize(
    "findings, code",
    [
        ((Finding("a", FindingState.OK, "fine", required=True), Finding("b", FindingState.NOTE, "none")), 0),
        ((Finding("a", FindingState.LACK, "gone", "bring it"),), 0),
        ((Finding("a", FindingState.LACK, "gone", "bring it", required=True),), 1),
    ],
)
def test_only_a_required_lack_fails(
    findings: tuple[Finding, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "survey", lambda: findings)
    table = CliRunner().invoke(cli.app, ["doctor"])
    answer = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert table.exit_code == answer.exit_code == code
    figures = json.loads(answer.output)["figures"]
    assert [figure["value"] for figure in figures] == [finding.state.value for finding in findings]
    for finding in findings:
        assert finding.found in table.output
        assert finding.mend in table.output


def test_the_survey_of_this_machine_covers_everything() -> None:
    findings = {finding.name: finding for finding in machine.survey()}
    assert list(findings) == [
        "python", "packages", "ros", "middleware", "shared memory", "rendering", "gpu", "onnx runtime",
        "processor", "real time", "serial ports", "build tools",
    ]  # fmt: skip
    lacking = [
        finding for finding in findings.values() if finding.required and finding.state is FindingState.LACK
    ]
    assert lacking == []


def test_a_probe_that_crashes_is_a_lack_with_the_last_error_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.run_probe("import os; os._exit(7)") == (None, "ended with code 7")
    assert machine.run_probe("raise OSError('libEGL.so.1')") == (None, "OSError: libEGL.so.1")
    monkeypatch.setattr(machine, "PROBE_TIMEOUT", 0.01)
    assert machine.run_probe("import time; time.sleep(60)") == (None, "no answer within 0 s")


def test_a_graphics_library_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    (finding,) = machine._rendering()
    assert (finding.state, finding.required) == (FindingState.LACK, True)
    assert finding.found.startswith("glfw: ")
    assert "unset MUJOCO_GL" in finding.mend


@pytest.mark.parametrize(
    "environment, mend",
    [
        ({}, "make env msgs"),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "unset RMW_IMPLEMENTATION"),
        ({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, "make env msgs"),
        ({"LD_LIBRARY_PATH": "elsewhere"}, "unset _ROS_WHEELS_BOOTSTRAP_COMPLETE"),
        ({"ROS_DISTRO": "jazzy"}, "without ROS 2 sourced"),
    ],
)
def test_what_mends_ros_depends_on_why_it_fails(
    environment: dict[str, str], mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: "7.1.6")
    libraries = {"LD_LIBRARY_PATH": f"other:{Path(sys.prefix, 'lib')}"}
    assert mend in machine._ros_kind(libraries | environment)[1]


def test_without_the_wheels_colcon_brings_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: None)
    assert machine._ros_kind({"ROS_DISTRO": "jazzy"})[1].startswith("colcon build")
    assert machine._ros_kind({}) == ("no ROS 2", "make env msgs")


def test_two_onnx_runtimes_are_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wheels write the same folder: whichever was installed last wins, silently."""
    monkeypatch.setattr(machine, "installed", lambda name: "1.0")
    finding = list(machine._gpu())[-1]
    assert (finding.name, finding.state, finding.required) == ("onnx runtime", FindingState.LACK, True)


def test_serial_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in machine._serial_ports(tmp_path)] == [FindingState.NOTE]
    (tmp_path / "ttyACM0").touch()
    assert [finding.found for finding in machine._serial_ports(tmp_path)] == ["ttyACM0"]
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    (finding,) = machine._serial_ports(tmp_path)
    assert finding.state is FindingState.LACK
    assert "dialout" in finding.mend

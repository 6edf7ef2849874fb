"""The robot descriptions: well formed, accepted by URDF's own checker, and true to the published numbers."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy.optimize import minimize

from wm_vla_ros import paths

URDFS = sorted(paths.urdf_dir().glob("*.urdf"))


@pytest.fixture(params=URDFS, ids=lambda path: path.name)
def urdf(request):
    return request.param


def test_urdf_has_its_checker_say_yes(urdf) -> None:
    checker = shutil.which("check_urdf")
    if checker is None:
        pytest.skip("check_urdf is not installed (apt package liburdfdom-tools)")
    done = subprocess.run([checker, str(urdf)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully Parsed XML" in done.stdout


def test_links_and_joints_form_one_tree(urdf) -> None:
    robot = ElementTree.parse(urdf).getroot()
    links = [link.get("name") for link in robot.findall("link")]
    assert len(set(links)) == len(links)
    children = [joint.find("child").get("link") for joint in robot.findall("joint")]
    parents = [joint.find("parent").get("link") for joint in robot.findall("joint")]
    assert len(set(children)) == len(children)
    assert set(children) | set(parents) == set(links)
    assert len(set(links) - set(children)) == 1


def test_every_moving_joint_has_limits_and_a_unit_axis(urdf) -> None:
    joints = [j for j in ElementTree.parse(urdf).getroot().findall("joint") if j.get("type") != "fixed"]
    assert joints
    for joint in joints:
        limit = {key: float(value) for key, value in joint.find("limit").attrib.items()}
        assert set(limit) == {"lower", "upper", "effort", "velocity"}
        assert limit["lower"] < limit["upper"]
        assert limit["effort"] > 0
        assert limit["velocity"] > 0
        axis = np.array([float(x) for x in joint.find("axis").get("xyz").split()])
        assert np.linalg.norm(axis) == pytest.approx(1.0)


def test_every_moving_link_has_mass_and_a_possible_inertia(urdf) -> None:
    robot = ElementTree.parse(urdf).getroot()
    for link in robot.findall("link"):
        if link.find("visual") is None:  # frames without matter
            continue
        assert float(link.find("inertial/mass").get("value")) > 0, link.get("name")
        inertia = link.find("inertial/inertia")
        moments = sorted(float(inertia.get(key)) for key in ("ixx", "iyy", "izz"))
        assert moments[0] > 0
        assert moments[0] + moments[1] >= moments[2], link.get("name")


def test_urdf_refers_to_no_other_file(urdf) -> None:
    """Primitive shapes only: a mesh path would resolve on one machine and not on the next."""
    assert ElementTree.parse(urdf).getroot().findall(".//mesh") == []


class TestSo101:
    """Numbers of the public description."""

    def test_joint_limits(self, spec) -> None:
        limits = dict(zip(spec.joint_names, zip(spec.lower, spec.upper, strict=True), strict=True))
        assert limits == {
            "shoulder_pan": (-1.92, 1.92),
            "shoulder_lift": (-1.745, 1.745),
            "elbow_flex": (-1.69, 1.69),
            "wrist_flex": (-1.658, 1.658),
            "wrist_roll": (-2.744, 2.841),
            "gripper": (-0.175, 1.745),
        }

    def test_the_shoulder_axis_is_119_mm_up(self, spec, kinematics) -> None:
        kinematics.tip_pose(np.zeros(6))
        data = kinematics._data
        assert data.xanchor[kinematics.model.joint("shoulder_lift").id][2] == pytest.approx(0.119, abs=1e-6)

    def test_lengths(self, kinematics) -> None:
        kinematics.tip_pose(np.zeros(6))
        anchor = {n: kinematics._data.xanchor[kinematics.model.joint(n).id] for n in JOINTS}
        upper_arm = anchor["elbow_flex"] - anchor["shoulder_lift"]
        assert np.linalg.norm(upper_arm) == pytest.approx(0.116, abs=5e-4)
        assert np.linalg.norm(anchor["wrist_flex"] - anchor["elbow_flex"]) == pytest.approx(0.135, abs=1e-4)

    def test_greatest_reach_from_the_shoulder(self, kinematics) -> None:
        shoulder = np.array([0.0, 0.0, 0.119])

        def shortfall(q: np.ndarray) -> float:
            joints = np.array([0.0, *q, 0.0, 0.0])
            return -float(np.linalg.norm(kinematics.tip_position(joints) - shoulder))

        starts = np.random.default_rng(0).uniform(-1.5, 1.5, (6, 3))
        reach = -min(minimize(shortfall, start, method="Nelder-Mead").fun for start in starts)
        assert 0.404 < reach < 0.4125

    def test_home_is_over_the_table_with_the_tool_down(self, spec, kinematics) -> None:
        rotation, position = kinematics.tip_pose(spec.home)
        np.testing.assert_allclose(position, [0.20, 0.0, 0.12], atol=1e-3)
        assert np.degrees(np.arccos(-rotation[2, 0])) == pytest.approx(25.0, abs=0.5)


JOINTS = ("shoulder_lift", "elbow_flex", "wrist_flex")

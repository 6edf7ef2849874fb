"""Robot specs: what is refused, and by which words."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import yaml

from wm_vla_ros import paths
from wm_vla_ros.robots.spec import available_robots, load_robot, parse_spec


@pytest.fixture
def raw() -> dict:
    return copy.deepcopy(yaml.safe_load((paths.config_dir() / "robots" / "so101.yaml").read_text()))


def test_an_unknown_robot_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown robot 'r2d2'; available: .*so101"):
        load_robot("r2d2")


@pytest.mark.parametrize("name", ["../robots/so101", "so101.yaml", ""])
def test_a_robot_name_is_not_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="available"):
        load_robot(name)


@pytest.mark.parametrize("name", available_robots())
def test_every_shipped_robot_loads_under_its_own_name(name: str) -> None:
    assert load_robot(name).name == name


def test_an_unknown_key_is_named(raw: dict) -> None:
    raw["colour"] = "orange"
    with pytest.raises(ValueError, match=r"mine: unknown keys \['colour'\], missing keys \[\]"):
        parse_spec(raw, "mine")


def test_every_key_is_required(raw: dict) -> None:
    for key in list(raw):
        less = {name: value for name, value in raw.items() if name != key}
        with pytest.raises(ValueError, match=rf"missing keys \['{key}'\]"):
            parse_spec(less, "mine")


@pytest.mark.parametrize("key", ["lower", "upper"])
def test_limits_come_from_the_urdf_alone(raw: dict, key: str) -> None:
    raw[key] = [0.0] * 6
    with pytest.raises(ValueError, match=f"unknown keys .*{key}"):
        parse_spec(raw, "mine")


def test_a_joint_that_the_urdf_lacks_is_named_with_those_it_has(raw: dict) -> None:
    raw["arm_joints"][2] = "knee"
    with pytest.raises(ValueError, match=r"no limited joint 'knee'; it has .*elbow_flex"):
        parse_spec(raw, "mine")


def test_a_joint_listed_twice_is_refused(raw: dict) -> None:
    raw["arm_joints"][2] = "shoulder_pan"
    with pytest.raises(ValueError, match="shoulder_pan"):
        parse_spec(raw, "mine")


@pytest.mark.parametrize("key", ["home", "velocity_limit", "acceleration_limit"])
@pytest.mark.parametrize("bad", [[0.1] * 5, [0.1] * 7, [0.1] * 5 + [math.nan], [0.1] * 5 + [math.inf]])
def test_joint_vectors_have_one_finite_number_per_joint(raw: dict, key: str, bad: list[float]) -> None:
    raw[key] = bad
    with pytest.raises(ValueError, match=f"{key} must be 6 finite numbers"):
        parse_spec(raw, "mine")


@pytest.mark.parametrize(
    "key",
    [
        "dt",
        "translation_scale",
        "rotation_scale",
        "leash",
        "gripper_speed",
        "limit_margin",
        "table_clearance",
    ],
)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.01, "fast"])
def test_scalars_are_finite_and_not_negative(raw: dict, key: str, bad: object) -> None:
    """A NaN leash would switch the leash off without a word: no comparison with it is ever true."""
    raw[key] = bad
    with pytest.raises(ValueError, match=f"{key} must be"):
        parse_spec(raw, "mine")


@pytest.mark.parametrize("key", ["velocity_limit", "acceleration_limit"])
def test_rates_are_positive(raw: dict, key: str) -> None:
    raw[key][0] = 0.0
    with pytest.raises(ValueError, match=f"{key} must be"):
        parse_spec(raw, "mine")


def test_home_lies_inside_the_limits(raw: dict) -> None:
    raw["home"][0] = 1.95
    with pytest.raises(ValueError, match="outside the URDF's joint limits"):
        parse_spec(raw, "mine")


@pytest.mark.parametrize("urdf", ["../so101.urdf", "/so101.urdf", "so101.xml", "missing.urdf"])
def test_a_urdf_is_a_plain_name_of_a_file_that_is_there(raw: dict, urdf: str) -> None:
    raw["urdf"] = urdf
    with pytest.raises(ValueError, match="urdf"):
        parse_spec(raw, "mine")


def test_vectors_cannot_be_changed_after_loading(spec) -> None:
    """One spec is shared by driver, planner and simulation: nobody widens a limit at run time."""
    for name in ("lower", "upper", "home", "velocity_limit", "acceleration_limit", "orientation_weights"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(spec, name)[0] = 9.0


def test_joint_vectors_are_ordered_arm_first(spec) -> None:
    assert spec.joint_names == (*spec.arm_joints, spec.gripper_joint)
    assert spec.dof == len(spec.joint_names) == len(spec.lower)
    assert np.all(spec.lower < spec.upper)


@pytest.mark.parametrize("group", ["simulation", "cameras"])
def test_keys_inside_a_group_are_checked_as_well(raw: dict, group: str) -> None:
    record = raw["simulation"] if group == "simulation" else raw["cameras"]["wrist"]
    record["fov"] = 3.0
    with pytest.raises(ValueError, match=r"unknown keys \['fov'\]"):
        parse_spec(raw, "mine")


@pytest.mark.parametrize(
    "limits, message",
    [
        ({"knee": [-1.0, 1.0]}, "unknown joint 'knee'; valid: shoulder_pan"),
        ({"elbow_flex": [-2.0, 1.0]}, r"within \[-1.69, 1.69\], got \[-2.0, 1.0\]"),
        ({"elbow_flex": [1.0, -1.0]}, "must be a range"),
        ({"elbow_flex": [math.nan, 1.0]}, "2 finite numbers"),
        ({"elbow_flex": [1.0]}, "2 finite numbers"),
    ],
)
def test_ik_limits_are_ranges_within_the_joints_own(raw: dict, limits: dict, message: str) -> None:
    raw["ik_limits"] = limits
    with pytest.raises(ValueError, match=message):
        parse_spec(raw, "mine")

"""Parameters: bounds, choices, read-only, unknown names; a refused value leaves the old one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

from wm_vla_ros.ros.params import ParameterError, Parameters
from wm_vla_ros.settings import setting


@dataclass(frozen=True)
class Settings:
    rate: float = setting(50.0, "rate, Hz", low=1.0, high=100.0, live=True)
    floor: float = setting(0.0, "any height above the floor, m", low=0.0, live=True)
    count: int = setting(3, "a count", low=1, high=9, live=True)
    mode: str = setting("a", "a mode", choices=("a", "b"), live=True)
    cameras: tuple[str, ...] = setting(("front", "wrist"), "cameras", choices=("front", "wrist"), live=True)
    limit: float = setting(1.0, "a limit, rad", low=0.0, high=2.0)


@pytest.fixture
def make(ros):
    nodes = []

    def build(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        nodes.append(Node("subject", parameter_overrides=given))
        return nodes[-1], Parameters(nodes[-1], Settings)

    yield build
    for node in nodes:
        node.destroy_node()


def test_the_values_are_the_defaults_and_the_overrides(make):
    _, parameters = make(rate=20.0, cameras=["wrist"])
    assert parameters.value == Settings(rate=20.0, cameras=("wrist",))


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("rate", 0.5, "rate"),
        ("rate", 100.1, "rate"),
        ("rate", math.nan, "rate"),
        ("floor", -0.1, "at least 0.0"),
        ("floor", math.inf, "finite"),
        ("count", 10, "count"),
        ("mode", "c", "valid: a, b"),
        ("cameras", ["front", "left"], "'left'"),
        ("rate", "fast", "rate"),
        ("rate", 20, "rate"),
    ],
)
def test_a_bad_value_at_start_is_refused_by_name(make, name, value, words):
    with pytest.raises(ParameterError, match=name) as refusal:
        make(**{name: value})
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "name, value",
    [("rate", 0.0), ("rate", math.nan), ("floor", math.nan), ("count", 0), ("mode", "c"), ("rate", "x")],
)
def test_a_bad_value_at_run_time_is_refused_and_the_old_one_kept(make, name, value):
    node, parameters = make()
    before = parameters.value
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert result.reason
    assert parameters.value == before
    assert node.get_parameter(name).value == getattr(before, name)


def test_a_limit_cannot_be_widened_at_run_time(make):
    node, parameters = make()
    (result,) = node.set_parameters([Parameter("limit", value=1.5)])
    assert not result.successful
    assert "read-only" in result.reason
    assert parameters.value.limit == 1.0


def test_a_good_value_at_run_time_replaces_the_settings(make):
    node, parameters = make()
    before = parameters.value
    (result,) = node.set_parameters([Parameter("rate", value=10.0)])
    assert result.successful
    assert (before.rate, parameters.value.rate) == (50.0, 10.0)


def test_one_bad_value_among_good_ones_changes_nothing(make):
    node, parameters = make()
    result = node.set_parameters_atomically([Parameter("rate", value=10.0), Parameter("mode", value="z")])
    assert not result.successful
    assert parameters.value == Settings()


def test_an_unknown_name_is_refused_with_the_valid_ones(make):
    """A misspelt name used to be ignored, and the default was in force in silence."""
    with pytest.raises(ParameterError, match="rte; valid: cameras, count, floor, limit, mode, rate"):
        make(rte=20.0)


def test_use_sim_time_is_not_an_unknown_name(make):
    _, parameters = make(use_sim_time=True)
    assert parameters.value == Settings()


def test_descriptions_bounds_and_choices_are_there_for_tools(make):
    node, _ = make()
    rate, mode, limit = (node.describe_parameter(name) for name in ("rate", "mode", "limit"))
    assert rate.description == "rate, Hz"
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (1.0, 100.0)
    assert "one of a, b" in mode.description
    assert (rate.read_only, limit.read_only) == (False, True)

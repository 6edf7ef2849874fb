"""The planner node's own parameters."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from wm_vla_ros.nodes.mpc_node import MpcSettings
from wm_vla_ros.planning.cadence import MAX_RATE
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.objective import Weights
from wm_vla_ros.world_models.runtimes import RUNTIMES


def test_the_rate_is_bounded_and_fixed_after_start() -> None:
    """The cadence refuses what is no multiple of the control rate; the declaration, what is out of bounds."""
    (rate,) = (entry for entry in fields(MpcSettings) if entry.name == "rate")
    assert (rate.metadata["low"], rate.metadata["high"]) == (0.0, MAX_RATE)
    assert rate.default == 0.0
    assert not rate.metadata["live"]


@pytest.mark.parametrize("entry", fields(Weights), ids=lambda entry: entry.name)
def test_every_weight_and_scale_is_a_parameter_with_bounds_and_reaches_the_core(entry) -> None:
    """One that the node did not hand on would be accepted, described and without effect."""
    (declared,) = (one for one in fields(MpcSettings) if one.name == entry.name)
    low, high = declared.metadata["low"], declared.metadata["high"]
    assert low <= declared.default <= high
    assert declared.metadata["description"]
    assert not declared.metadata["live"]
    changed = 0.5 * (low + high)
    assert changed != declared.default
    settings = MpcSettings(**{entry.name: changed})
    assert getattr(MpcConfig(**settings.weights()), entry.name) == changed


def test_the_nodes_defaults_are_the_cores() -> None:
    assert MpcSettings().weights() == MpcConfig().weights()


def test_the_reference_names_every_weight_and_scale_with_its_range() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/graph.md").read_text()
    weights = {entry.name: entry.metadata for entry in fields(Weights)}
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) & weights.keys()
    assert named == weights.keys()
    ranges = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+ to [\d.]+)", page, re.MULTILINE))
    for name, meta in weights.items():
        bounds = "0 to 100" if name.startswith("weight_") else ranges[name]
        assert [float(each) for each in bounds.split(" to ")] == [meta["low"], meta["high"]]


def test_the_runtime_is_tried_unless_it_is_named() -> None:
    (runtime,) = (entry for entry in fields(MpcSettings) if entry.name == "runtime")
    assert runtime.default == "auto"
    assert runtime.metadata["choices"] == ("auto", *RUNTIMES)
    assert not runtime.metadata["live"]

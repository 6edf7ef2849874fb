"""The planner node's own parameters."""

from __future__ import annotations

from dataclasses import fields

from wm_vla_ros.nodes.mpc_node import Settings
from wm_vla_ros.planning.cadence import MAX_RATE
from wm_vla_ros.world_models.runtimes import RUNTIMES


def test_the_rate_is_bounded_and_fixed_after_start() -> None:
    """The cadence refuses what is no multiple of the control rate; the declaration, what is out of bounds."""
    (rate,) = (entry for entry in fields(Settings) if entry.name == "rate")
    assert (rate.metadata["low"], rate.metadata["high"]) == (0.0, MAX_RATE)
    assert rate.default == 0.0
    assert not rate.metadata["live"]


def test_the_runtime_is_tried_unless_it_is_named() -> None:
    (runtime,) = (entry for entry in fields(Settings) if entry.name == "runtime")
    assert runtime.default == "auto"
    assert runtime.metadata["choices"] == ("auto", *RUNTIMES)
    assert not runtime.metadata["live"]

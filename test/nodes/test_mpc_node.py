"""The planner node's own parameters."""

from __future__ import annotations

from dataclasses import fields

from wm_vla_ros.nodes.mpc_node import Settings
from wm_vla_ros.planning.cadence import MAX_RATE


def test_the_rate_is_bounded_and_fixed_after_start() -> None:
    """The cadence refuses what is no multiple of the control rate; the declaration, what is out of bounds."""
    (rate,) = (entry for entry in fields(Settings) if entry.name == "rate")
    assert (rate.metadata["low"], rate.metadata["high"]) == (0.0, MAX_RATE)
    assert rate.default == 0.0
    assert not rate.metadata["live"]

"""One writer at a time."""

from __future__ import annotations

import pytest

from wm_vla_ros.safety.arbiter import Arbiter
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Refused


def test_only_the_owner_is_let_in() -> None:
    arbiter = Arbiter("mpc", silence=0.2)
    arbiter.check("mpc", "a", 0.0)
    with pytest.raises(Refused, match="'teleop' does not own") as caught:
        arbiter.check("teleop", "a", 0.0)
    assert caught.value.code == FaultCode.FOREIGN


def test_a_second_writer_of_the_same_name_waits_for_silence() -> None:
    """Two planners started by mistake both say "mpc": the arm must not obey them in turns."""
    arbiter = Arbiter("mpc", silence=0.2)
    arbiter.heard("first", 0.0)
    with pytest.raises(Refused, match="second"):
        arbiter.check("mpc", "second", 0.19)
    arbiter.check("mpc", "first", 0.19)
    arbiter.check("mpc", "second", 0.2)


def test_being_refused_takes_nothing() -> None:
    arbiter = Arbiter("mpc", silence=0.2)
    arbiter.check("mpc", "second", 0.0)  # looked at, its plan then refused for another reason
    arbiter.heard("first", 0.01)
    arbiter.check("mpc", "first", 0.02)


def test_a_transport_without_identities_is_one_writer() -> None:
    arbiter = Arbiter("mpc", silence=0.2)
    arbiter.heard("", 0.0)
    arbiter.check("mpc", "", 0.01)

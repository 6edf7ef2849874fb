"""Two streams joined by stamp, in any order and with any lag."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header

from wm_vla_ros.ros.pairing import Pairing


class Message:
    def __init__(self, stamp: int) -> None:
        self.header = Header(stamp=Time(sec=stamp))


@given(lag=st.integers(-20, 20))
def test_a_stream_that_lags_still_finds_its_partners(lag):
    """On a busy machine joints came ten messages after their objects, and no frame was rendered at all."""
    pairing, pairs = Pairing(waiting=24), []
    for step in range(100):
        for stamp, add in ((step, pairing.first), (step + lag, pairing.second)):
            pair = add(Message(stamp)) if stamp >= 0 else None
            if pair:
                pairs.append(pair)
    assert len(pairs) >= 100 - 2 * abs(lag)
    assert all(first.header == second.header for first, second in pairs)


def test_first_and_second_stay_in_their_places():
    pairing, one, two = Pairing(), Message(1), Message(1)
    assert pairing.second(two) is None
    assert pairing.first(one) == (one, two)


def test_a_pair_is_given_once():
    pairing = Pairing()
    pairing.first(Message(1))
    assert pairing.second(Message(1)) is not None
    assert pairing.second(Message(1)) is None


def test_what_never_finds_a_partner_is_forgotten():
    pairing = Pairing(waiting=3)
    for stamp in range(10):
        pairing.first(Message(stamp))
    assert pairing.second(Message(6)) is None
    assert pairing.second(Message(7)) is not None

"""Images of one instant: order of cameras and of instants, and what is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.sensing.frames import FrameMatcher


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


def test_an_instant_is_complete_with_its_last_camera_whatever_the_order():
    for first, second in (("front", "wrist"), ("wrist", "front")):
        matcher = FrameMatcher(("front", "wrist"))
        assert matcher.add(first, 10, image(1)) is None
        frames = matcher.add(second, 10, image(2))
        assert {name: frame[0, 0, 0] for name, frame in frames.items()} == {first: 1, second: 2}


def test_images_of_different_instants_are_never_put_together():
    """A wrist image of the frame before, beside a front image of now, is a scene that never was."""
    matcher = FrameMatcher(("front", "wrist"))
    assert matcher.add("wrist", 10, image(1)) is None
    assert matcher.add("front", 20, image(2)) is None
    assert matcher.add("wrist", 20, image(3))["wrist"][0, 0, 0] == 3


def test_an_instant_that_was_overtaken_is_dropped():
    matcher = FrameMatcher(("front", "wrist"))
    matcher.add("front", 10, image(1))
    matcher.add("front", 20, image(2))
    assert matcher.add("wrist", 20, image(2)) is not None
    assert matcher.add("wrist", 10, image(1)) is None


def test_a_camera_that_stopped_does_not_fill_the_memory():
    matcher = FrameMatcher(("front", "wrist"))
    for instant in range(1000):
        matcher.add("front", instant, image(0))
    assert matcher.add("wrist", 0, image(0)) is None
    assert matcher.add("wrist", 999, image(0)) is not None


def test_one_camera_alone_is_complete_at_once():
    assert FrameMatcher(("front",)).add("front", 1, image(5))["front"][0, 0, 0] == 5


def test_an_unknown_camera_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="'left'; valid: front, wrist"):
        FrameMatcher(("front", "wrist")).add("left", 1, image(0))

"""What a chunk does while its path is travelled at any pace, and what it still counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.planning.objective import chunk_motion, chunk_trust

STEPS = st.lists(st.floats(0.0, 3.0), min_size=1, max_size=12)


@given(seed=st.integers(0, 99), start=st.floats(0.0, 30.0), steps=STEPS)
def test_no_motion_is_lost_or_counted_twice(seed: int, start: float, steps: list[float]) -> None:
    """However a stretch of the path is cut into ticks, its motion is the sum of the chunk's over it."""
    chunk = np.random.default_rng(seed).uniform(-1, 1, (20, 7)).astype(np.float32)
    at = start + np.concatenate([[0.0], np.cumsum(steps)])
    whole = chunk_motion(chunk, at[[0, -1]])
    np.testing.assert_allclose(chunk_motion(chunk, at)[:, :6].sum(axis=0), whole[0, :6], atol=1e-5)


def test_at_the_chunks_own_pace_its_motion_is_its_rows() -> None:
    chunk = np.random.default_rng(0).uniform(-1, 1, (20, 7)).astype(np.float32)
    np.testing.assert_allclose(chunk_motion(chunk, np.arange(3.0, 14.0)), chunk[3:13], atol=1e-6)


def test_at_twice_the_pace_it_moves_twice_as_far_and_grips_as_at_the_ticks_start() -> None:
    chunk = np.random.default_rng(0).uniform(-1, 1, (20, 7)).astype(np.float32)
    motion = chunk_motion(chunk, np.arange(0.0, 21.0, 2.0))
    np.testing.assert_allclose(motion[:, :6], chunk[0::2, :6] + chunk[1::2, :6], atol=1e-6)
    np.testing.assert_array_equal(motion[:, 6], chunk[0::2, 6])


def test_past_its_end_a_chunk_stands_still_with_its_last_grip() -> None:
    chunk = np.full((4, 7), 0.5, np.float32)
    motion = chunk_motion(chunk, np.array([3.5, 4.0, 4.0, 4.0]))
    np.testing.assert_allclose(motion[0, :6], 0.25)
    np.testing.assert_array_equal(motion[1:, :6], 0.0)
    np.testing.assert_array_equal(motion[:, 6], 0.5)


def test_trust_halves_with_each_half_life_and_each_half_divergence() -> None:
    assert chunk_trust(0.0, 0.0, 0.3, 0.01) == 1.0
    assert chunk_trust(0.3, 0.0, 0.3, 0.01) == pytest.approx(0.5)
    assert chunk_trust(0.6, 0.01, 0.3, 0.01) == pytest.approx(0.125)
    assert chunk_trust(-0.1, 0.0, 0.3, 0.01) == 1.0, "a chunk of the future is no better than one of now"
    assert chunk_trust(0.1, np.inf, 0.3, 0.01) == 0.0


@given(
    ages=st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0)),
    divergences=st.tuples(st.floats(0.0, 0.5), st.floats(0.0, 0.5)),
)
def test_trust_never_grows_with_age_or_divergence(ages, divergences) -> None:
    older, worse = max(ages), max(divergences)
    trust = [chunk_trust(min(ages), min(divergences), 0.5, 0.01), chunk_trust(older, worse, 0.5, 0.01)]
    assert 0.0 <= trust[1] <= trust[0] <= 1.0

"""Trust in observations: finds the gain that the noise deserves, and stays sane whatever it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.belief.trust import INITIAL_RATIO, Trust


def optimal(ratio: float) -> float:
    """Steady gain of the Kalman filter for a random walk of `ratio` times the observation's variance."""
    return (-ratio + np.sqrt(ratio**2 + 4.0 * ratio)) / 2.0


def filtered(process: float, sensor: float, steps: int = 600, dim: int = 16, seed: int = 0) -> list[float]:
    """Gains over `steps` observations of a random walk, standard deviations `process` and `sensor`."""
    rng = np.random.default_rng(seed)
    truth, belief, trust, gains = np.zeros(dim), np.zeros(dim), Trust(), []
    for _ in range(steps):
        truth = truth + rng.normal(0.0, process, dim)
        innovation = (truth + rng.normal(0.0, sensor, dim) - belief).astype(np.float32)
        trust = trust.after(innovation, 1.0)
        belief = belief + trust.gain * innovation
        gains.append(trust.gain)
    return gains


@pytest.mark.parametrize("ratio", [0.05, 0.3, 1.0, 5.0])
def test_the_gain_goes_to_the_one_that_the_noise_deserves(ratio: float) -> None:
    gains = filtered(np.sqrt(ratio) * 0.01, 0.01)
    assert np.mean(gains[200:]) == pytest.approx(optimal(ratio), abs=0.06)


def test_a_model_that_is_off_in_one_direction_is_believed_less() -> None:
    """Under an unmodelled drift every innovation says the same: the observation is right."""
    trust = Trust()
    push = np.full(8, 0.01, np.float32)
    for _ in range(60):
        trust = trust.after(push, 1.0)
    assert trust.gain > 0.98


def test_a_long_gap_makes_the_prior_doubtful() -> None:
    trust = Trust().after(np.ones(4, np.float32), 1.0)
    innovation = np.array([1.0, -1.0, 1.0, -1.0], np.float32)
    gains = [trust.after(innovation, ticks).gain for ticks in (0.0, 1.0, 5.0, 20.0)]
    assert gains == sorted(gains)
    assert gains[0] == pytest.approx(trust.gain / (1.0 + trust.gain))
    assert gains[-1] > 0.95


@settings(max_examples=100)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 1e-30, 1.0, 1e18, 3e38, np.nan, np.inf]), st.floats(0.0, 100.0)),
        min_size=1,
        max_size=80,
    )
)
def test_it_is_bounded_and_finite_whatever_comes(steps) -> None:
    trust = Trust()
    with np.errstate(all="ignore"):
        for size, ticks in steps:
            trust = trust.after(np.full(4, size, np.float32), ticks)
            assert 0.0 < trust.gain <= 1.0
            assert 0.0 < trust.ratio < 1e3


def test_two_outliers_in_a_row_change_little() -> None:
    trust = Trust()
    for size in (1e6, 1e6):
        trust = trust.after(np.full(4, size, np.float32), 1.0)
    assert trust.ratio < 1.2 * INITIAL_RATIO

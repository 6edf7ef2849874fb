"""Probabilities from margins: recovered where they are known, and scored as the formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.judging.forecast import Platt, calibration_error, figures, reliability


def outcomes(slope: float, n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(margin, true probability, what happened)."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0.01, 0.02, n)
    probability = 1.0 / (1.0 + np.exp(-slope * (margin - 0.005)))
    return margin, probability, rng.random(n) < probability


@given(slope=st.floats(20.0, 300.0), seed=st.integers(0, 20))
def test_platt_scaling_finds_the_probabilities_again(slope: float, seed: int) -> None:
    margin, probability, happened = outcomes(slope, seed=seed)
    assert np.abs(Platt.fit(margin, happened)(margin) - probability).mean() < 0.03


def test_a_margin_that_says_nothing_becomes_the_rate() -> None:
    rng = np.random.default_rng(0)
    happened = rng.random(2000) < 0.3
    assert np.abs(Platt.fit(rng.normal(size=2000), happened)(rng.normal(size=500)) - 0.3).max() < 0.12


def test_outcomes_that_can_be_told_apart_have_finite_weights() -> None:
    margin = np.linspace(-1.0, 1.0, 40)
    said = Platt.fit(margin, margin > 0)(margin)
    assert np.all(np.isfinite(said))
    assert said[0] < 0.1 < 0.9 < said[-1]


def test_one_outcome_alone_says_nothing() -> None:
    with pytest.raises(ValueError, match="need finite margins of both outcomes, got 5 successes, 0 failures"):
        Platt.fit(np.arange(5.0), np.ones(5, bool))
    with pytest.raises(ValueError, match="need finite margins"):
        Platt.fit(np.array([0.0, np.nan]), np.array([True, False]))


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.95, 0.95, 0.15, 0.15])
    happened = np.array([True, False, False, False])
    assert calibration_error(probability, happened) == pytest.approx(0.5 * 0.45 + 0.5 * 0.15)
    said, came, count = reliability(probability, happened)
    np.testing.assert_allclose(said, [0.15, 0.95])
    np.testing.assert_allclose(came, [0.0, 0.5])
    assert count.tolist() == [2, 2]


def test_true_probabilities_are_calibrated_and_overconfident_ones_are_not() -> None:
    _, probability, happened = outcomes(100.0)
    sharper = np.where(probability > 0.5, 0.99, 0.01)
    assert calibration_error(probability, happened) < 0.03
    assert calibration_error(sharper, happened) > 0.08


def test_scores_rank_forecasts_as_they_should() -> None:
    _, probability, happened = outcomes(100.0, n=400)
    good = {figure.name: figure for figure in figures("", probability, happened)}
    shuffled = np.random.default_rng(1).permutation(probability)
    bad = {figure.name: figure for figure in figures("", shuffled, happened)}
    assert good["auroc"].low > 0.7 > 0.6 > bad["auroc"].value
    assert good["brier"].value < bad["brier"].low
    assert good["auroc"].low < good["auroc"].value < good["auroc"].high


def test_auroc_of_one_outcome_is_null() -> None:
    auroc = figures("", np.array([0.2, 0.7]), np.array([True, True]))[0]
    assert np.isnan(auroc.value)
    assert auroc.n == 0

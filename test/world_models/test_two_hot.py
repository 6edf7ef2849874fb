"""Symlog and two-hot bins: what goes in comes out, and what does not fit is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.world_models.two_hot import TwoHot, symexp, symlog

NUMBERS = st.lists(st.floats(-20_000, 20_000, width=32), min_size=1, max_size=20)


@given(NUMBERS)
def test_symexp_undoes_symlog(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x)


@given(NUMBERS)
def test_the_mean_of_the_weights_is_the_number(values: list[float]) -> None:
    two_hot, x = TwoHot(), torch.tensor(values)
    weights = two_hot.encode(x)
    torch.testing.assert_close(weights @ two_hot.bins, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(values)))
    assert (weights >= 0).all()
    assert ((weights > 0).sum(-1) <= 2).all()


@given(st.floats(-1000, 1000, width=32))
def test_the_loss_is_least_at_the_number_itself(value: float) -> None:
    """Logits of the two-hot weights themselves lose only their entropy, and any others more."""
    two_hot = TwoHot(bins=41)
    target = torch.tensor([value])
    right = (two_hot.encode(target) + 1e-9).log()
    entropy = -(right.softmax(-1) * right.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(two_hot.loss(right, target), entropy, rtol=1e-3, atol=1e-4)
    assert two_hot.loss(torch.zeros(1, 41), target) > entropy
    torch.testing.assert_close(two_hot.mean(right), target, rtol=1e-3, atol=1e-2)


def test_a_bin_itself_and_both_ends() -> None:
    two_hot = TwoHot(bins=11, low=-5.0, high=5.0)
    torch.testing.assert_close(two_hot.encode(two_hot.bins), torch.eye(11))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e9])
def test_what_lies_outside_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=r"(nan|inf|-1e\+09) lies outside the bins"):
        TwoHot().encode(torch.tensor([1.0, value]))


@pytest.mark.parametrize("bins, low, high", [(1, -5.0, 5.0), (11, 0.0, 0.0), (11, -1.0, math.nan)])
def test_impossible_bins_are_refused(bins: int, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected bins >= 2 and low < high"):
        TwoHot(bins, low, high)


class TestInSymlog:
    """The mean of symlogs, over bins that need not be about zero."""

    TWO_HOT = TwoHot(64, -0.2, 4.8, in_symlog=True)

    @pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 37.0, 100.0])
    def test_what_is_written_is_read(self, value: float) -> None:
        weights = self.TWO_HOT.encode(torch.tensor([value]))
        assert int((weights > 0).sum()) <= 2
        assert float(self.TWO_HOT.mean(weights.clamp(min=1e-30).log())) == pytest.approx(value, abs=1e-3)

    def test_an_even_distribution_has_the_middle_symlog(self) -> None:
        torch.testing.assert_close(self.TWO_HOT.mean(torch.zeros(1, 64)), symexp(torch.tensor([2.3])))

    def test_a_number_beyond_the_bins_is_refused_in_its_own_units(self) -> None:
        with pytest.raises(ValueError, match="1000 lies outside the bins, -0.221403 to 120.51"):
            self.TWO_HOT.encode(torch.tensor([0.5, 1000.0]))

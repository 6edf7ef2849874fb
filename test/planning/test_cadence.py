"""How often and when the fast loop plans: bounds, and where plans lie between two ticks of the driver."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.planning.cadence import MAX_RATE, cadence, valid_rates
from wm_vla_ros.planning.config import MpcConfig

DT = 0.02


def test_without_a_choice_there_is_one_plan_per_control_tick() -> None:
    usual = cadence(0.0, DT)
    assert usual == cadence(50.0, DT)
    assert (usual.period, usual.phase, usual.tolerance) == pytest.approx((0.02, 0.004, 0.003))
    assert usual.deadline == pytest.approx(MpcConfig().deadline)


def test_valid_rates_are_the_multiples_of_the_control_rate() -> None:
    assert valid_rates(DT) == (50, 100, 150, 200)
    assert valid_rates(0.05) == (20, 40, 60, 80, 100, 120, 140, 160, 180, 200)
    assert [cadence(rate, DT).period for rate in valid_rates(DT)] == pytest.approx(
        [1 / 50, 1 / 100, 1 / 150, 1 / 200]
    )


@pytest.mark.parametrize("rate", [25.0, 60.0, 99.0, MAX_RATE + 50.0, -50.0, float("nan")])
def test_any_other_rate_is_refused_with_the_valid_ones(rate: float) -> None:
    with pytest.raises(ValueError, match="valid: 50, 100, 150, 200"):
        cadence(rate, DT)


@pytest.mark.parametrize("rate", [50.0, 100.0, 200.0])
def test_every_plan_but_those_in_the_last_lead_is_for_the_drivers_next_tick(rate: float) -> None:
    """At 100 Hz with the phase of 50 Hz, every second plan fell on the border between two ticks."""
    timing, lead = cadence(rate, DT), MpcConfig().lead
    begins = timing.phase + timing.period * np.arange(round(DT / timing.period))
    assert abs(begins + lead - DT).min() > timing.tolerance
    assert begins[0] + lead + timing.tolerance < DT


@pytest.mark.parametrize("rate", valid_rates(DT))
def test_a_plan_has_time_to_end_before_the_next_begins(rate: float) -> None:
    timing = cadence(rate, DT)
    assert timing.deadline < timing.period
    assert timing.tolerance < timing.period / 2  # an alignment shifts by half a period at the most

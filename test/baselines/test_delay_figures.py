"""The figures of `wm-vla bench delay`, by hand, and its picture."""

from __future__ import annotations

import math

import pytest

from wm_vla_ros.baselines.delay_bench import Cell, DelayEpisode
from wm_vla_ros.baselines.delay_figures import figures
from wm_vla_ros.baselines.delay_plot import plot_delay
from wm_vla_ros.rig.rig import EpisodeResult

LIMIT = 6.0


def made(times: list[float], jumps: tuple[float, ...] = (), jerk: float = 1.0) -> list[DelayEpisode]:
    """Episodes of these times; the limit means failure."""
    return [
        DelayEpisode(EpisodeResult(1000 + i, "", time < LIMIT, time, 0.0), jumps, 0.02, jerk)
        for i, time in enumerate(times)
    ]


def named(results) -> dict:
    return {figure.name: figure for figure in figures(results)}


def test_the_share_recovered_compares_losses_each_with_its_own_beginning() -> None:
    """Ours loses 0.12 s twice, without prediction 1.02 and 3.12 s."""
    results = {
        Cell("reach", "ours", "delay", 0.0): made([1.0, 1.0]),
        Cell("reach", "ours", "delay", 0.02): made([1.12, 1.12]),
        Cell("reach", "ours", "delay", 0.12): made([1.12, 1.12]),
        Cell("reach", "ours", "delay", 0.2): made([LIMIT, LIMIT]),  # beyond six ticks: not counted
        Cell("reach", "ours_no_prediction", "delay", 0.0): made([2.0, 2.0]),
        Cell("reach", "ours_no_prediction", "delay", 0.02): made([3.02, 3.02]),
        Cell("reach", "ours_no_prediction", "delay", 0.12): made([5.12, 5.12]),
    }
    found = named(results)
    assert found["delay.recovered_obs"].value == pytest.approx(1.0 - 0.24 / 4.14)
    assert found["delay.recovered_obs.reach"].value == found["delay.recovered_obs"].value
    assert found["delay.lost_obs.reach"].value == pytest.approx(0.12)
    assert found["delay.lost_obs_no_prediction.reach"].value == pytest.approx(2.07)


def test_nothing_lost_is_nothing_to_recover() -> None:
    names = ("ours", "ours_no_prediction")
    results = {Cell("reach", n, "delay", d): made([1.0 + d] * 3) for n in names for d in (0.0, 0.02)}
    results[Cell("reach", "ours_no_prediction", "delay", 0.02)] = made([0.9] * 3)
    assert math.isnan(named(results)["delay.recovered_obs"].value)


def test_the_drop_is_that_of_the_worst_task_and_drift_is_not_among_them() -> None:
    ok, lost = [1.0] * 4, [1.0, LIMIT, LIMIT, 1.0]
    results = {
        Cell(task, "rtc", "latency", latency): made(lost if (task, latency) in bad else ok)
        for task in ("reach", "push", "drift")
        for latency in (0.0, 0.3)
        for bad in [{("push", 0.3)}]
    }
    results[Cell("drift", "rtc", "latency", 0.3)] = made([LIMIT] * 4)
    found = named(results)
    assert found["delay.success_drop_300ms_rtc"].value == 0.5
    assert found["delay.success.push.rtc.300ms"].value == 0.5
    assert found["delay.time.push.rtc.300ms"].value == pytest.approx(3.5)
    assert "delay.success_drop_300ms" not in found


def test_the_time_ratio_is_paired_and_the_worst_task_counts() -> None:
    results = {
        Cell("reach", "ours", "own", 0.01): made([1.0, 2.0]),
        Cell("reach", "sync", "own", 0.01): made([2.0, 4.0]),
        Cell("push", "ours", "own", 0.01): made([3.0, 3.0]),
        Cell("push", "sync", "own", 0.01): made([4.0, 4.0]),
    }
    found = named(results)
    assert found["delay.time_ratio_async_sync.reach"].value == pytest.approx(0.5)
    assert found["delay.time_ratio_async_sync"].value == pytest.approx(0.75)


def test_seams_are_pooled_at_300_ms() -> None:
    results = {
        Cell("reach", "ours", "latency", 0.3): made([1.0], (0.1, 0.3), 10.0),
        Cell("push", "ours", "latency", 0.3): made([1.0], (0.5,), 20.0),
        Cell("reach", "ours", "latency", 0.0): made([1.0], (9.0,), 900.0),
        Cell("moving", "rtc", "latency", 0.3): made([LIMIT], (0.2,), 5.0),
        Cell("drift", "rtc", "latency", 0.3): made([LIMIT], (9.0,), 900.0),
        Cell("drift", "ours", "latency", 0.3): made([1.0, LIMIT], (), 15.0),
        Cell("drift", "sync", "latency", 0.3): made([LIMIT, LIMIT]),
    }
    found = named(results)
    assert found["delay.seam_velocity_jump"].value == pytest.approx(0.3)
    assert found["delay.seam_velocity_jump_rtc"].value == pytest.approx(0.2)
    assert found["delay.path_jerk"].value == pytest.approx((10.0 + 20.0) / 2)
    assert found["delay.velocity_change_within"].value == pytest.approx(0.02)
    assert found["delay.drift_success"].value == 0.5
    assert found["delay.drift_success_policy_alone"].value == 0.0


def test_the_picture_is_written_whatever_was_run(tmp_path) -> None:
    results = {
        Cell(task, name, "latency", latency): made([1.0, LIMIT])
        for task in ("reach", "push")
        for name in ("sync", "ours")
        for latency in (0.0, 0.3)
    }
    results[Cell("reach", "ours", "drop", 0.3)] = made([1.0])
    plot_delay(tmp_path / "deep" / "delay.png", results)
    assert (tmp_path / "deep" / "delay.png").stat().st_size > 10_000

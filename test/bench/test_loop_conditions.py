"""What `bench loop` runs under: selections, names of figures, and what the stack is told."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.bench.lateness_plot import exceedance, plot_lateness
from wm_vla_ros.bench.loop_conditions import LoopCondition, parse_conditions, renamed
from wm_vla_ros.bringup.stack import stack_kind
from wm_vla_ros.report import Figure

DT = 0.02


def test_without_a_choice_it_is_the_usual_condition_and_names_stay_as_they_are() -> None:
    (usual,) = parse_conditions("", "0", "fifo", DT)
    assert usual == LoopCondition(50, 0, "fifo")
    assert usual.suffix(50) == ""
    assert renamed([Figure("loop.late_ratio", 0.0)], "") == (Figure("loop.late_ratio", 0.0),)


def test_every_combination_is_run_once_and_rates_are_the_outermost() -> None:
    runs = parse_conditions("50,200", "0, 2,2", "fifo,other", DT)
    assert [run.suffix(50) for run in runs] == [
        "", ".other", ".hogs2", ".hogs2.other",
        ".200hz", ".200hz.other", ".200hz.hogs2", ".200hz.hogs2.other",
    ]  # fmt: skip
    assert len({run.name for run in runs}) == len(runs)


def test_the_usual_rate_is_the_robots_own() -> None:
    (usual,) = parse_conditions("", "0", "fifo", 0.05)
    assert (usual.rate, usual.suffix(20)) == (20, "")


@pytest.mark.parametrize(
    "chosen, words",
    [
        (("50,75", "0", "fifo"), "--rates: unknown value '75'; valid: 50, 100, 150, 200"),
        (("fast", "0", "fifo"), "--rates"),
        (("50", "-1", "fifo"), "--hogs: unknown value '-1'; valid: 0, 1, 2"),
        (("50", "99", "fifo"), "--hogs"),
        (("50", "0", "fifo,rr"), "--scheduling: unknown value 'rr'; valid: fifo, other"),
        (("50", "0", "fifo,"), "--scheduling: unknown value ''"),
    ],
)
def test_a_bad_value_is_named_with_the_valid_ones(chosen: tuple[str, str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_conditions(*chosen, DT)


def test_a_condition_becomes_arguments_of_the_stack() -> None:
    def parameters(condition: LoopCondition) -> dict[str, dict]:
        stack = stack_kind("sim").build(**condition.choices())
        return {node.name: dict(node.parameters) for node in stack.nodes}

    fifo, other = parameters(LoopCondition(100)), parameters(LoopCondition(50, 2, "other"))
    assert (fifo["mpc_node"]["rate"], other["mpc_node"]["rate"]) == (100.0, 50.0)
    for node in ("driver_node", "sim_camera_node", "mpc_node"):
        assert other[node]["realtime_priority"] == 0
        assert "realtime_priority" not in fifo[node]
    assert other["vla_node"]["planner_priority"] == 0
    assert "planner_priority" not in fifo["vla_node"]


def test_exceedance_is_the_share_that_is_at_least_as_large() -> None:
    at, share = exceedance(np.array([3.0, 1.0, 2.0, 10.0]))
    np.testing.assert_allclose(at, [1.0, 2.0, 3.0, 10.0])
    np.testing.assert_allclose(share, [1.0, 0.75, 0.5, 0.25])


def test_the_picture_is_drawn_also_where_a_combination_is_missing(tmp_path) -> None:
    rng = np.random.default_rng(0)
    runs = {
        LoopCondition(rate, count, kind): rng.exponential(0.1 * (1 + count), 500)
        for rate in (50, 100, 200)
        for count in (0, 1, 2)
        for kind in ("fifo", "other")
        if (rate, kind) != (200, "other")
    }
    plot_lateness(tmp_path / "late.png", runs)
    assert (tmp_path / "late.png").stat().st_size > 10_000

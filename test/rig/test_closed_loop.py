"""`wm-vla eval tasks`: what it runs, what it counts, what it refuses. The episodes are stood in for."""

from __future__ import annotations

import re
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.report import Figure
from wm_vla_ros.rig import closed_loop
from wm_vla_ros.rig.closed_loop import EvalSettings, evaluate, parse_planner, parse_seeds
from wm_vla_ros.rig.rig import EpisodeResult, RigConditions

LIMIT = 6.0
SETTINGS = EvalSettings("reach", tuple(range(1000, 1010)), "so101", "p", "w", RigConditions(vla_latency=0.3))


@pytest.mark.parametrize(
    "text, seeds",
    [
        ("1000:1003", (1000, 1001, 1002)),
        ("7", (7,)),
        ("3,1,2", (3, 1, 2)),
        ("0:1", (0,)),
        (" 4 , 5 ", (4, 5)),
    ],
)
def test_seeds_are_a_range_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "5:5", "9:3", "1:2:3", "1,,2", "-1", "-2:3", "1.5", "1:", "1;2"])
def test_other_texts_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"seeds must be FIRST:LAST \(end excluded\) or a comma list"):
        parse_seeds(text)


@given(first=st.integers(0, 10**6), count=st.integers(1, 50))
def test_a_range_has_its_seeds_once_each(first: int, count: int) -> None:
    assert parse_seeds(f"{first}:{first + count}") == tuple(range(first, first + count))


class InlinePool:
    """A pool that runs at once, in this process, and hands results out of order."""

    def __init__(self, workers: int, mp_context=None, initializer=None) -> None:
        assert mp_context.get_start_method() == "spawn"  # a forked GL context or torch pool would hang

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


def episode(settings: EvalSettings, controller: str, seed: int) -> EpisodeResult:
    """The stack takes 1 s, the policy alone 2 s; alone fails on every fifth seed."""
    success = controller == "stack" or seed % 5 != 0
    time = {"stack": 1.0, "policy_alone": 2.0}[controller] if success else LIMIT
    return EpisodeResult(seed, "touch the red cube", success, time, 0.01)


@pytest.fixture
def figures(monkeypatch):
    """figures(**arguments): ({name: Figure}, report, results) of an evaluation of made-up episodes."""

    def run(settings=SETTINGS, episode=episode, **arguments):
        monkeypatch.setattr(closed_loop, "ProcessPoolExecutor", InlinePool)
        monkeypatch.setattr(closed_loop, "as_completed", lambda futures: list(futures)[::-1])
        monkeypatch.setattr(closed_loop, "_episode", episode)
        report, results = evaluate(settings, **arguments)
        return {figure.name: figure for figure in report.figures}, report, results

    return run


def test_success_and_time_of_both_controllers_over_the_same_seeds(figures) -> None:
    found, report, results = figures()
    assert report.command == "eval tasks"
    assert found["reach.success"].value == 1.0
    assert found["reach.success_policy_alone"].value == 0.8
    assert found["reach.success"].n == found["reach.success_policy_alone"].n == 10
    assert found["reach.success_policy_alone"].low < 0.8 < found["reach.success_policy_alone"].high
    assert found["reach.time"].value == pytest.approx(1.0)
    assert found["reach.time_policy_alone"].value == pytest.approx((8 * 2.0 + 2 * LIMIT) / 10)
    for episodes in results.values():
        assert [episode.seed for episode in episodes] == list(SETTINGS.seeds)


def test_the_time_ratio_counts_a_failure_with_its_whole_time_limit(figures) -> None:
    ratio = figures()[0]["reach.time_ratio"]
    assert ratio.value == pytest.approx(10.0 / 28.0)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.low >= 1.0 / LIMIT
    assert ratio.high <= 0.5
    assert ratio.n == 10


def test_equal_times_are_a_ratio_of_one_without_spread(figures) -> None:
    def same(settings, controller, seed):
        return EpisodeResult(seed, "", True, 1.0 + seed % 3, 0.01)

    ratio = figures(episode=same)[0]["reach.time_ratio"]
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_interval_is_paired_by_seed_and_reproducible(figures) -> None:
    """Seeds differ far more than controllers do: unpaired, the interval would hold anything."""

    def paired(settings, controller, seed):
        time = float(np.random.default_rng(seed).uniform(0.5, 5.0))
        return EpisodeResult(seed, "", True, time * (0.6 if controller == "stack" else 1.0), 0.01)

    first, again = (figures(episode=paired)[0]["reach.time_ratio"] for _ in range(2))
    assert first == again
    assert isinstance(first, Figure)
    assert (first.low, first.high) == pytest.approx((0.6, 0.6))


def test_one_controller_alone_has_no_ratio(figures) -> None:
    found, _, results = figures(controllers=("stack",))
    assert set(found) == {"reach.success", "reach.time"}
    assert set(results) == {"stack"}


def test_conditions_say_what_was_measured_and_how(figures) -> None:
    _, report, _ = figures()
    said = report.conditions
    assert "in-process" in said["loop"]
    assert said["seeds"] == "1000..1009 (10)"
    assert (said["policy"], said["world_model"], said["vla_latency"]) == ("p", "w", 0.3)
    assert said["drift_speed"] == 0.0


@pytest.mark.parametrize("workers", [1, 3])
def test_progress_counts_every_episode_whatever_the_workers(figures, workers: int) -> None:
    done = []
    figures(workers=workers, progress=done.append)
    assert done == list(range(1, 21))


def test_unknown_tasks_and_controllers_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown task 'juggle'; valid: reach, push"):
        evaluate(replace(SETTINGS, task="juggle"))
    with pytest.raises(ValueError, match=r"unknown controllers \['magic'\]; valid: stack, policy_alone"):
        evaluate(SETTINGS, controllers=("stack", "magic"))


def test_the_planners_settings_are_read_by_name_and_kind() -> None:
    config = parse_planner(["weight_value=2.5", "actor_candidate=true", "divergence_count=4"])
    assert (config.weight_value, config.actor_candidate, config.divergence_count) == (2.5, True, 4)
    assert parse_planner([]) == MpcConfig()


@pytest.mark.parametrize(
    "text, words",
    [
        ("speed=1", "unknown planner setting 'speed'; valid: actor_candidate, "),
        ("sampler=1", "unknown planner setting 'sampler'"),
        ("bias=yes", "bias: expected true or false, got 'yes'"),
        ("divergence_count=1.5", "divergence_count: expected a whole number, got '1.5'"),
        ("weight_tip", "weight_tip: expected a number, got ''"),
        ("weight_tip=-1", "weight_tip must be within 0.0 and 100.0, got -1.0"),
    ],
)
def test_a_setting_that_is_none_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_planner([text])


def test_a_report_says_how_the_planner_was_changed(figures) -> None:
    changed = replace(SETTINGS, planner=parse_planner(["bias=false", "weight_value=1"]))
    said = figures(settings=changed)[1].conditions["planner"]
    assert parse_planner(said.split(",")) == changed.planner
    assert figures()[1].conditions["planner"] == ""

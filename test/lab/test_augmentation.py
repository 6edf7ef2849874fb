"""Imagined demonstrations against recorded ones: what is asked for, what is counted, and who is favoured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from wm_vla_ros import cli
from wm_vla_ros.lab.augmentation import (
    ARMS,
    IMAGINED,
    NOISE,
    RECORDED,
    Augmentation,
    figures_of,
    parse_demos,
    plot,
    task_of,
)
from wm_vla_ros.lab.augmented_set import Source
from wm_vla_ros.rig.rig import EpisodeResult

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def results(shares: dict[str, float], demos: int = 10, n: int = 100) -> dict:
    return {
        (demos, arm): [EpisodeResult(i, "", i < share * n, 2.0, 0.0) for i in range(n)]
        for arm, share in shares.items()
    }


@pytest.mark.parametrize(
    ("recorded", "noise", "imagined", "favours"),
    [
        (0.3, 0.3, 0.7, IMAGINED),
        (0.3, 0.7, 0.7, "none"),
        (0.3, 0.9, 0.6, NOISE),
        (0.8, 0.3, 0.2, RECORDED),
        (0.5, 0.5, 0.5, "none"),
    ],
)
def test_an_arm_is_favoured_when_it_is_clear_of_both_others(
    recorded: float, noise: float, imagined: float, favours: str
) -> None:
    """Better than recorded alone is not enough: plain noise might have done the same."""
    shares = {RECORDED: recorded, NOISE: noise, IMAGINED: imagined}
    figures = {figure.name: figure for figure in figures_of(10, results(shares))}
    assert figures["demos_10.favours"].value == favours
    for arm, share in shares.items():
        assert figures[f"demos_10.{arm}.success"].value == share
    for rival in (RECORDED, NOISE):
        gain = figures[f"demos_10.gain_over_{rival}"]
        assert gain.value == pytest.approx(imagined - shares[rival])
        assert gain.low <= gain.value <= gain.high


def test_a_gain_is_drawn_by_seed() -> None:
    figures = {f.name: f for f in figures_of(10, results(dict.fromkeys(ARMS, 0.5)))}
    gain = figures["demos_10.gain_over_recorded"]
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)


def test_picture_is_a_png(tmp_path: Path) -> None:
    figures = [f for n in (10, 30) for f in figures_of(n, results(dict.fromkeys(ARMS, 0.5), n))]
    plot((10, 30), figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_asked_is_refused() -> None:
    asked = Augmentation(Path("d"), "w", (10, 30), 10, (1, 2, 3), 100)
    for change, said in (
        ({"times": 0}, "times must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"demos": (30, 10)}, r"numbers from 1 on that increase, got \[30, 10\]"),
        ({"demos": (0,)}, r"numbers from 1 on that increase, got \[0\]"),
        ({"draws": 4}, "4 draws need as many seeds or more, got 3"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(asked, **change)
    with pytest.raises(ValueError, match="whole numbers like 10,30,100, got 'ten'"):
        parse_demos("ten")
    assert parse_demos("10,30") == (10, 30)


def test_one_task_of_the_simulator_is_judged() -> None:
    assert task_of(["push the red cube to the green pad", "push the blue cube to the yellow pad"]) == "push"
    with pytest.raises(ValueError, match="one task at a time is judged, the data set holds push, reach"):
        task_of(["push the red cube to the green pad", "touch the red cube"])
    with pytest.raises(ValueError, match="unknown instruction 'play'"):
        task_of(["play"])


def source(success: list[bool], tasks: list[int]) -> Source:
    """Episodes of two rows each, done at the end or not."""
    data = SimpleNamespace(
        success=np.repeat(success, 2),
        starts=np.arange(0, 2 * len(success) + 1, 2),
        episode_tasks=np.array(tasks),
    )
    return Source(None, data, "some_set", "ab" * 32)  # type: ignore[arg-type]


def test_demonstrations_that_succeeded_take_turns_by_instruction() -> None:
    """Ten of many may be of one instruction; a policy that never hears the others would be judged on them."""
    tasks = [0] * 20 + [1] * 4
    chosen = source([True] * 24, tasks).chosen(8, 0)
    assert np.bincount(np.array(tasks)[chosen]).tolist() == [4, 4]
    assert not set(source([n != 3 for n in range(24)], tasks).chosen(23, 0)) & {3}
    np.testing.assert_array_equal(
        source([True] * 24, tasks).chosen(4, 0), source([True] * 24, tasks).chosen(8, 0)[:4]
    )


def test_more_demonstrations_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 3, which some_set has, got 4"):
        source([True, True, False, True], [0] * 4).chosen(4, 0)
    with pytest.raises(ValueError, match="some_set has no episode that ends in success"):
        source([False, False], [0, 0]).demonstrations(0)


@pytest.mark.slow
def test_recorded_and_imagined_from_the_command_line(tmp_path: Path) -> None:
    """What is typed: record, imagine, judge. Whether it helps is no matter of so few demonstrations."""
    root, out, sets = (str(tmp_path / name) for name in ("reach", "imagined", "sets"))

    def run(*words: str) -> dict[str, dict]:
        result = RUNNER.invoke(cli.app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        return {figure["name"]: figure for figure in json.loads(result.stdout)["figures"]}

    run("data", "collect", "--task", "reach", "--episodes", "6", "--cameras", "front", "--out", root)
    made = run("data", "imagine", "--dataset", root, "--times", "2", "--out", out)
    assert made["imagine.episodes"]["value"] == 12
    assert run("data", "info", out)["data.imagined"]["value"] == 12
    words = ("--demos", "3,6", "--times", "1", "--seeds", "1000:1002", "--steps", "20", "--workers", "1")
    picture = tmp_path / "picture.png"
    found = run("eval", "augment", "--dataset", root, *words, "--sets", sets, "--png", str(picture))
    for name in ("demos_3", "demos_6"):
        assert all(found[f"{name}.{arm}.success"]["n"] == 2 for arm in ARMS)
        assert found[f"{name}.draw_1.imagined.rows"]["value"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("data", "info", f"{sets}/demos_6_draw_0")["data.imagined"]["value"] == 6
    again = RUNNER.invoke(cli.app, ["eval", "augment", "--dataset", root, "--sets", sets])
    assert isinstance(again.exception, FileExistsError)

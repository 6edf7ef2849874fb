"""The one shape in which commands say what they measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros import __version__
from wm_vla_ros.report import Figure, Report, conditions, emit, mean_interval, proportion, wilson


def printed(report: Report, capsys: pytest.CaptureFixture[str]) -> dict:
    emit(report, as_json=True)
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    return json.loads(output)


def test_json_object_has_the_agreed_keys(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(
        "eval tasks", {"task": "reach"}, (proportion("reach.success", 95, 100), Figure("n", 3, "ms"))
    )
    answer = printed(report, capsys)
    assert list(answer) == ["command", "version", "conditions", "figures"]
    assert answer["version"] == __version__
    assert [list(figure) for figure in answer["figures"]] == [
        ["name", "value", "unit", "n", "low", "high"]
    ] * 2
    assert answer["figures"][1] == {
        "name": "n",
        "value": 3,
        "unit": "ms",
        "n": None,
        "low": None,
        "high": None,
    }


def test_numpy_paths_and_non_finite_values_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    """json.dumps writes a NaN as a word that no other JSON reader accepts."""
    figures = (Figure("a", np.float32(0.5)), Figure("b", math.nan), Figure("c", np.bool_(True)))
    answer = printed(Report("x", {"seeds": np.arange(3), "folder": Path("models")}, figures), capsys)
    assert [figure["value"] for figure in answer["figures"]] == [0.5, None, True]
    assert answer["conditions"] == {"seeds": [0, 1, 2], "folder": "models"}


def test_table_shows_value_unit_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    emit(
        Report("bench loop", {"cores": 2}, (Figure("loop.rate_hz", 49.98, "Hz", 9000, 49.9, 50.1),)),
        as_json=False,
    )
    output = capsys.readouterr().out
    for word in ("bench loop", "loop.rate_hz", "49.98", "Hz", "9000", "49.9 .. 50.1", "cores: 2"):
        assert word in output


@pytest.mark.parametrize(
    "successes, n, low, high",
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (95, 100, 0.8882, 0.9785), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_against_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("successes, n", [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        wilson(successes, n)


def test_mean_interval_is_student_t() -> None:
    figure = mean_interval("t", [1.0, 2.0, 3.0, 4.0], "s")
    half = 3.18245 * np.std([1, 2, 3, 4], ddof=1) / 2  # t quantile for 3 degrees of freedom
    assert (figure.value, figure.n, figure.unit) == (2.5, 4, "s")
    assert (figure.low, figure.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-4)


def test_mean_interval_of_too_few_values() -> None:
    assert mean_interval("t", [2.0]).low is None
    assert math.isnan(mean_interval("t", []).value)


def test_figures_refuse_half_an_interval_and_names_with_spaces() -> None:
    with pytest.raises(ValueError, match="low and high"):
        Figure("a", 1.0, low=0.5)
    with pytest.raises(ValueError, match="one word"):
        Figure("two words", 1.0)


def test_conditions_describe_the_machine() -> None:
    found = conditions()
    assert found["cores"] >= 1
    assert found["packages"]["numpy"] == np.__version__
    json.dumps(found, allow_nan=False)

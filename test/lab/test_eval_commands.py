"""`wm-vla eval` as it is typed, on the models that ship: what is reported, in small, not how much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wm_vla_ros import cli

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
POLICY = "so101_keypoint_chunk"


def figures(words: list[str]) -> dict[str, dict]:
    result = RUNNER.invoke(cli.app, ["eval", *words, "--json"])
    assert result.exit_code == 0, result.output
    return {figure["name"]: figure for figure in json.loads(result.stdout)["figures"]}


@pytest.mark.slow
def test_planning_and_imitation_touch_a_cube(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["planning-vs-bc", "--types", "reach", "--seeds", "1000:1002", "--workers", "1"]
    found = figures([*words, "--html", str(page)])
    assert found["reach.planning.success"]["value"] == found["reach.bc.success"]["value"] == 1.0
    assert found["reach.planning.time"]["value"] < found["reach.bc.time"]["value"]
    assert found["reach.favours"]["value"] == "neither"
    assert "data:image/png" in page.read_text()


@pytest.mark.slow
def test_faults_lose_in_the_model_as_in_the_simulator(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    words = ["policies", "--tasks", "reach", "--seeds", "1000:1003", "--episodes", "2", "--starts", "20"]
    names = (POLICY, *(f"{POLICY}@{fault}" for fault in ("gain=0", "noise=10", "deaf=1")))
    chosen = [word for name in names for word in ("--policy", name)]
    found = figures([*words, *chosen, "--workers", "1", "--png", str(picture)])
    for prefix in ("", "latent_dynamics."):
        assert found[f"{prefix}policy.{POLICY}.reach.success"]["value"] == 1.0
        assert found[f"{prefix}policy.{POLICY}@gain=0.reach.success"]["value"] == 0.0
    assert found["latent_dynamics.ranking.spearman"]["value"] > 0.5
    assert found["latent_dynamics.ranking.spearman"]["n"] == 4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_success_is_foreseen_better_than_by_its_share() -> None:
    found = figures(["success-prediction", "--tasks", "reach", "--trials", "80"])
    assert found["latent_dynamics.success_prediction.reach.auroc"]["value"] > 0.7
    assert found["latent_dynamics.success_prediction.reach.brier_skill"]["value"] > 0.0


def test_bad_words_are_refused_in_one_line() -> None:
    for words, said in (
        (["planning-vs-bc", "--types", "juggle"], "unknown task types juggle; valid: reach, push"),
        (["policies", "--policy", POLICY], "ranking needs 4 or more policies"),
        (["success-prediction", "--tasks", "juggle"], "unknown tasks"),
    ):
        result = RUNNER.invoke(cli.app, ["eval", *words])
        assert result.exit_code != 0
        assert said in f"{result.output} {result.exception}"

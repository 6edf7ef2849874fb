"""`wm-vla models` as it is typed, on the models that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wm_vla_ros import cli
from wm_vla_ros.config import defaults
from wm_vla_ros.world_models import available

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def test_the_default_world_model_is_listed_and_can_plan() -> None:
    result = RUNNER.invoke(cli.app, ["models", "list", "--json"])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(result.stdout)["conditions"]["models"]}
    assert set(rows) == set(available())
    assert rows[defaults().world_model]["plan_ready"] is True
    table = RUNNER.invoke(cli.app, ["models", "list"]).output
    assert all(name in table for name in rows)


def test_a_model_is_shown_with_what_training_measured() -> None:
    result = RUNNER.invoke(cli.app, ["models", "show", defaults().world_model, "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["conditions"]["name"] == defaults().world_model
    assert {"size_mb", "imagination.probe_r2_cube"} <= {figure["name"] for figure in shown["figures"]}


@pytest.mark.slow
def test_the_quick_comparison_measures_everything(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["models", "compare", "--world-model", defaults().world_model, "--quick", "--html", str(page)]
    result = RUNNER.invoke(cli.app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    values = {figure["name"]: figure["value"] for figure in json.loads(result.stdout)["figures"]}
    assert values["latent_dynamics.imagination.ratio_10"] < 0.4
    assert values["latent_dynamics.reach.success"] == 1.0
    assert values["latent_dynamics.plan.p50_ms"] < values["latent_dynamics.plan.p99_ms"]
    assert "data:image/png" in page.read_text()

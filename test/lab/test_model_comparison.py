"""Models side by side: two small untrained ones, judged and timed. The closed loop is stood in for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import grounding_names
from wm_vla_ros.delivery import deliver
from wm_vla_ros.judging import held_out, judged
from wm_vla_ros.judging.judged import label, load_judged
from wm_vla_ros.lab import model_facts
from wm_vla_ros.lab.model_comparison import Comparison, compare, side_by_side
from wm_vla_ros.lab.model_facts import describe, listing, report_of, shown, size_mb, train_minutes
from wm_vla_ros.report import Report, as_object, proportion
from wm_vla_ros.rig import closed_loop
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.manifest import ModelRefused

SIZE = (32, 40)


@pytest.fixture(scope="module")
def seen(data: EpisodeArrays) -> EpisodeArrays:
    """The known episodes with images that are large enough for an encoder."""
    images = np.zeros((len(data.actions), *SIZE, 3), np.uint8)
    images[:, :4, :4] = data.images["front"]
    return replace(data, images={"front": images})


@pytest.fixture(scope="module")
def folders(seen: EpisodeArrays, spec: RobotSpec, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of one family with random weights."""
    torch = pytest.importorskip("torch")
    from wm_vla_ros.world_models.export import Provenance, export
    from wm_vla_ros.world_models.latent_dynamics import LatentDynamics
    from wm_vla_ros.world_models.modules import ModelConfig

    torch.set_num_threads(1)
    root, names = tmp_path_factory.mktemp("models"), grounding_names(seen)
    for number, name in enumerate(("small_one", "small_two")):
        torch.manual_seed(number)
        config = ModelConfig(
            cameras=(("front", *SIZE),),
            proprio_dim=len(seen.state_names),
            action_dim=7,
            grounding_dim=len(names),
            latent_dim=16,
            hidden=32,
            channels=8,
            keypoints=4,
        )
        provenance = Provenance(("none",), "Apache-2.0", "a test")
        export(LatentDynamics(config).eval(), root / name, spec, proprio_names(spec), names, provenance)
    (root / "small_one" / "report.json").write_text(
        json.dumps(as_object(Report("train world-model", {"minutes": 7.5}, (proportion("x.y", 1, 2),))))
    )
    return [root / "small_one", root / "small_two"]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, seen: EpisodeArrays) -> None:
    """Nothing is simulated: the known episodes stand in for whatever would be recorded."""
    monkeypatch.setattr(held_out, "record", lambda *arguments, **options: seen)
    monkeypatch.setattr(held_out, "record_probe_scenes", lambda *arguments: seen)


WHAT = Comparison("policy", ("reach",), (1000, 1001), episodes=2, windows=60, plans=20, workers=1)


def test_two_models_of_a_family_are_told_apart_by_name(
    folders: list[Path], recorded: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second cannot drive; that is said, and what can be measured of it still is."""

    def drive(settings, controllers, workers, progress):
        assert (settings.task, settings.seeds, controllers) == ("reach", (1000, 1001), ("stack",))
        if settings.world_model.endswith("two"):
            raise ModelRefused("encoder_id: expected another")
        progress(2)
        return Report("eval tasks", {}, (proportion("reach.success", 2, 2),)), {}

    monkeypatch.setattr(closed_loop, "evaluate", drive)
    shares: list[float] = []
    report, draw = compare(
        [str(folder) for folder in folders], WHAT, lambda share, note: shares.append(share)
    )
    found = {figure.name: figure.value for figure in report.figures}
    for name in ("small_one", "small_two"):
        assert 0.0 < found[f"{name}.plan.p50_ms"] <= found[f"{name}.plan.p99_ms"]
        assert found[f"{name}.size_mb"] > 0.01
        assert f"{name}.imagination.contact_20" in found
        assert np.isfinite(found[f"{name}.imagination.ratio_10"])
    assert found["small_one.imagination.ratio_10"] != found["small_two.imagination.ratio_10"]
    assert found["small_one.train_minutes"] == 7.5
    assert np.isnan(found["small_two.train_minutes"])
    assert found["small_one.reach.success"] == 1.0
    assert np.isnan(found["small_two.reach.success"])
    told = report.conditions["not_measured"]
    assert set(told) == {"small_two.train_minutes", "small_two.reach"}
    assert "expected another" in told["small_two.reach"]
    assert shares == sorted(shares)
    labels, rows = side_by_side(report)
    assert labels == ("small_one", "small_two")
    table = dict(rows)
    assert [figure.value for figure in table["size_mb"]] == [found[f"{name}.size_mb"] for name in labels]
    assert table["reach.success"][0].value == 1.0
    draw(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_tasks_nothing_is_driven(
    folders: list[Path], recorded: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(closed_loop, "evaluate", None)
    report, draw = compare([str(folders[0])], replace(WHAT, tasks=()))
    assert {figure.name.partition(".")[0] for figure in report.figures} == {"latent_dynamics"}
    assert not any("success" in figure.name for figure in report.figures)
    draw(tmp_path / "plot.png")


def test_an_unknown_task_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ValueError, match="unknown tasks \\['juggle'\\]; valid: reach, push, or none"):
        replace(WHAT, tasks=("reach", "juggle"))


def model(name: str, family: str) -> SimpleNamespace:
    return SimpleNamespace(manifest=SimpleNamespace(name=name, family=family))


def test_labels_are_families_where_that_tells_them_apart() -> None:
    models = [model("a", "rssm"), model("b", "jepa"), model("c", "jepa")]
    assert label(models) == {"rssm": models[0], "b": models[1], "c": models[2]}
    with pytest.raises(ValueError, match="names of their own, got more than one 'a'"):
        label([model("a", "jepa"), model("a", "jepa")])


def test_no_model_is_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="no world model to judge"):
        load_judged([])


def test_a_data_set_that_was_trained_on_is_refused(folders: list[Path], tmp_path: Path) -> None:
    bench = load_judged([str(folders[0])])
    with pytest.raises(ValueError, match="none is what small_one was trained on: none"):
        judged.record_or_load(bench, tmp_path / "none", 2)


def test_training_time_is_measured_given_or_unknown(tmp_path: Path) -> None:
    assert np.isnan(train_minutes(tmp_path))
    report = {"conditions": {"minutes": None}, "figures": []}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert np.isnan(train_minutes(tmp_path))
    path.write_text(json.dumps(report | {"conditions": {"minutes": 30}}))
    assert train_minutes(tmp_path) == 30
    measured = {"name": "train.minutes", "value": 31.5, "unit": "min", "n": None, "low": None, "high": None}
    path.write_text(json.dumps({"conditions": {"minutes": 30}, "figures": [measured]}))
    assert train_minutes(tmp_path) == 31.5


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": [{"value": 1}], "conditions": {}}'])
def test_a_broken_report_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match="report.json is not a report of this package"):
        report_of(tmp_path)


def test_size_is_that_of_the_files_which_the_manifest_names(folders: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders[0], tmp_path / "small_one"))
    before = size_mb(copy)
    (copy / "notes.txt").write_bytes(b"x" * 10**6)
    assert size_mb(copy) == before
    files = [path for path in copy.iterdir() if path.name not in ("notes.txt", "report.json")]
    assert before == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)


def test_a_listed_model_says_whether_it_can_plan(folders: list[Path], tmp_path: Path) -> None:
    row = describe(str(folders[0]))
    assert (row["family"], row["latent_dim"], row["plan_ready"], row["refused"]) == (
        "latent_dynamics", 16, True, "",
    )  # fmt: skip
    copy = Path(shutil.copytree(folders[0], tmp_path / "small_one"))
    (copy / "step.onnx").write_bytes(b"damaged")
    damaged = describe(str(copy))
    assert damaged["plan_ready"] is False
    assert "sha256 of step.onnx" in damaged["refused"]
    (copy / "manifest.json").write_text("{}")
    refused = describe(str(copy))
    assert (refused["family"], refused["plan_ready"]) == (None, False)
    assert "manifest fields: missing" in refused["refused"]
    report = listing((str(folders[0]), str(copy)))
    assert [row["plan_ready"] for row in report.conditions["models"]] == [True, False]


def test_a_shown_model_has_its_manifest_and_its_own_figures(folders: list[Path]) -> None:
    report = shown(str(folders[0]))
    assert report.conditions["encoder_id"].startswith("small_one-")
    found = {figure.name: figure.value for figure in report.figures}
    assert found["x.y"] == 0.5
    assert found["train_minutes"] == 7.5
    assert found["plan_ready"] is True
    with pytest.raises(ModelRefused, match="unknown world model 'nobody'"):
        shown("nobody")


def test_a_planner_that_refuses_the_model_is_quoted(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wm_vla_ros.planning import calibration

    def refuse(*arguments: object) -> None:
        raise ModelRefused("rehearsal: expected a plan in every tick, found none")

    monkeypatch.setattr(calibration, "time_ticks", refuse)
    assert model_facts.plan_refusal(str(folders[0])).startswith("rehearsal: expected a plan")


def test_the_page_holds_everything_and_loads_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = (proportion("a.b", 1, 4), replace(proportion("a.c", 0, 1), value=float("nan")))
    report = Report("eval latent", {"cpu": "<b>&"}, figures)
    page, picture = tmp_path / "new" / "page.html", tmp_path / "other" / "plot.png"
    deliver(report, lambda file: file.write(b"\x89PNG picture"), picture, page, True)
    assert picture.read_bytes() == b"\x89PNG picture"
    text = page.read_text()
    assert "data:image/png;base64,iVBORyBwaWN0dXJl" in text
    assert "<td>a.b</td><td class=number>0.25</td>" in text
    assert "not measured" in text
    assert "&lt;b&gt;&amp;" in text
    assert "http" not in text
    assert json.loads(capsys.readouterr().out)["command"] == "eval latent"


def test_without_a_path_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    def draw(file: object) -> None:
        raise AssertionError("drawn for nobody")

    deliver(Report("eval latent", {}, ()), draw, None, None, True)
    assert "eval latent" in capsys.readouterr().out

"""Data of other shapes train, export, load and plan with no change of code, whatever the family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays, load_episodes
from wm_vla_ros.judging.imagination_judge import evaluate
from wm_vla_ros.judging.judged import load_judged, record_probe_scenes
from wm_vla_ros.lab.model_comparison import Comparison, compare
from wm_vla_ros.lab.model_facts import describe
from wm_vla_ros.planning.objective import Objective
from wm_vla_ros.planning.recorded import LatentPlanner, recorded_config
from wm_vla_ros.rig import closed_loop
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.world_model_trainer import Trainer
from wm_vla_ros.training.world_model_training import WorldModelTraining, robot_of, train
from wm_vla_ros.world_models.families import FAMILIES, family_class
from wm_vla_ros.world_models.manifest import RECORDED, ModelRefused, RecordedRobot
from wm_vla_ros.world_models.protocol import WorldModel

STAGES = TrainConfig(Stage(0.4, 16, 2e-3), Stage(0.3, 8, 1e-3, 8), Stage(0.3, 16, 2e-3, 12))
OPTIONS = {"steps": 9, "held_out": 0.34, "stages": STAGES, "device": "cpu"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """Family and data set to the folder of a model, each trained once, some steps only."""
    root, done = tmp_path_factory.mktemp("trained"), {}

    def make(family: str, data: Path) -> Path:
        name = f"{family}_{data.name}"
        if name not in done:
            train([data], root / name, WorldModelTraining(family, **OPTIONS))
            done[name] = root / name
        return done[name]

    return make


def encoded(model: WorldModel, data: EpisodeArrays, row: int) -> np.ndarray:
    images = {name: data.images[name][data.row_frame[row]] for name in model.manifest.cameras}
    return model.encode(images, data.states[row])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["planar", "bimanual"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_trains_and_plans(
    family: str, name: str, made: Callable, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = request.getfixturevalue(name)
    data = load_episodes(root, None)
    needed = {"cameras": bool(data.images), "state": True, "success": False}
    if lacking := [what for what in family_class(family).needs if not needed[what]]:
        with pytest.raises(ValueError, match=f"{family} needs {lacking[0]}"):
            train([root], tmp_path / "model", WorldModelTraining(family, **OPTIONS))
        return
    if family == "video":  # what it sees coming lies beyond windows as short as these
        with pytest.raises(ValueError, match="family video looks .* ticks ahead"):
            train([root], tmp_path / "model", WorldModelTraining(family, **OPTIONS))
        return
    folder = made(family, root)
    for runtime in ("onnx", "torch"):
        model = world_models.load(folder, runtime=runtime)
        manifest = model.manifest
        assert (manifest.action_space, manifest.action_dim) == (RECORDED, data.actions.shape[1])
        assert tuple(manifest.cameras) == tuple(data.images)
        assert manifest.grounding_names == manifest.proprio_names == data.state_names
        low, high = (np.float32(each) for each in (manifest.actions.low, manifest.actions.high))
        start, goal = encoded(model, data, 0), encoded(model, data, 10)
        planner = LatentPlanner(model)
        still = np.zeros(model.action_dim, np.float32)
        costs = []
        for _ in range(4):
            solution = planner.plan(start, goal, still)
            costs.append(planner.cost(start, goal, solution.actions))
        assert solution.actions.shape == (manifest.horizon, model.action_dim)
        assert np.all((solution.actions >= low - 1e-6) & (solution.actions <= high + 1e-6))
        doing_nothing = planner.cost(start, goal, np.repeat(still[None], manifest.horizon, axis=0))
        assert costs[-1] < doing_nothing


@pytest.mark.slow
def test_a_trained_one_goes_where_it_is_told(planar: Path) -> None:
    """Latents of a state that was learned for a little longer: the plan's true end is nearer to the goal."""
    from wm_vla_ros.world_models.export import Provenance, export

    data = load_episodes(planar, None)
    one = Trainer(data, np.arange(5), (), STAGES, 0)
    one.run(Budget(steps=600))
    folder = planar.parent / "planar_model"
    export(one.model, folder, robot_of(data), data.state_names, one.names, Provenance((), "x", "a test"))
    model = world_models.load(folder)
    planner, rng = LatentPlanner(model), np.random.default_rng(0)
    nearer = []
    for _ in range(8):
        row = int(rng.integers(5 * 32, 5 * 32 + 20))
        start, goal = data.states[row], data.states[row + 10]
        still = np.zeros(2, np.float32)
        for _ in range(3):
            plan = planner.plan(encoded(model, data, row), encoded(model, data, row + 10), still).actions
        end = start + plan.sum(0)
        nearer.append(np.linalg.norm(end - goal) < 0.7 * np.linalg.norm(start - goal))
    assert np.mean(nearer) > 0.7


@pytest.mark.slow
def test_plans_with_the_gradient_through_it(made: Callable, planar: Path) -> None:
    from dataclasses import replace

    model = world_models.load(made("latent_dynamics", planar), runtime="torch")
    config = replace(recorded_config(model.manifest), method="gradient")
    planner = LatentPlanner(model, config)
    data = load_episodes(planar, None)
    still = np.zeros(2, np.float32)
    start, goal = encoded(model, data, 0), encoded(model, data, 10)
    found = planner.cost(start, goal, planner.plan(start, goal, still).actions)
    assert found < planner.cost(start, goal, np.zeros((model.manifest.horizon, 2), np.float32))


@pytest.mark.slow
def test_a_camera_alone_is_grounded_on_its_light(made: Callable, blind: Path) -> None:
    model = world_models.load(made("jepa", blind))
    assert model.manifest.proprio_names == ()
    assert len(model.grounding_names) == 48
    data = load_episodes(blind, None)
    latent = encoded(model, data, 3)
    assert latent.shape == (model.latent_dim,)
    assert LatentPlanner(model).plan(latent, latent, np.zeros(2, np.float32)).actions.shape == (10, 2)


@pytest.mark.slow
def test_compare_says_what_it_can_and_cannot_judge(
    made: Callable, planar: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(closed_loop, "evaluate", None)
    folder = str(made("latent_dynamics", planar))
    held_out = tmp_path / "fresh"
    held_out.symlink_to(planar)
    what = Comparison("policy", ("reach",), (1000,), episodes=2, windows=60, plans=10, data=held_out)
    report, draw = compare([folder], what)
    found = {figure.name: figure.value for figure in report.figures}
    for name in ("imagination.ratio_10", "imagination.state_ratio_10", "plan.p99_ms", "train_minutes"):
        assert np.isfinite(found[f"latent_dynamics.{name}"]), name
    assert np.isnan(found["latent_dynamics.reach.success"])
    assert not any("tip" in name or "cube" in name or "contact" in name for name in found)
    told = report.conditions["not_measured"]
    assert "nothing here can simulate" in told["latent_dynamics.reach"]
    assert "joint_0" in told["latent_dynamics.grounding"]
    draw(tmp_path / "plot.png")
    report, draw = evaluate([folder], held_out, windows=60)
    assert {"imagination.ratio_linear_10", "imagination.probe_r2_state"} <= {f.name for f in report.figures}
    with pytest.raises(ValueError, match="nothing here can simulate the robot"):
        compare([folder], Comparison("policy", (), (), plans=5))
    with pytest.raises(ValueError, match="nothing here can simulate the robot"):
        record_probe_scenes(load_judged([folder]))


@pytest.mark.slow
def test_it_is_refused_by_what_drives_a_known_robot(made: Callable, planar: Path, spec: RobotSpec) -> None:
    folder = made("latent_dynamics", planar)
    with pytest.raises(ModelRefused, match="robot: expected 'so101'.*found 'push_T'"):
        world_models.load(folder, robot=spec)
    row = describe(str(folder))
    assert not row["plan_ready"]
    assert "push_T is known by its recordings alone" in row["refused"]
    model = world_models.load(folder)
    with pytest.raises(ValueError, match="weight_tip: .* grounds no tip; give it the weight 0"):
        Objective(type(recorded_config(model.manifest))(), model, 10, spec)


def test_a_known_robot_with_other_actions_is_another_robot(planar: Path) -> None:
    from dataclasses import replace

    found = robot_of(replace(load_episodes(planar, None), robot="so101"))
    assert isinstance(found, RecordedRobot)
    assert (found.name, found.actions.names) == ("so101", ("action_0", "action_1"))


def test_a_family_says_what_the_data_cannot_teach(planar: Path) -> None:
    data = load_episodes(planar, None)
    one = Trainer(data, np.arange(5), (), STAGES, 0, family=family_class("implicit"))
    assert "no row of the data is a success" in one.model.untaught(data)[0]
    assert family_class("latent_dynamics")(one.model.config).untaught(data) == ()


def test_a_family_without_what_it_needs_is_refused_by_name(planar: Path) -> None:
    class Seeing(family_class("jepa")):
        needs = ("cameras", "success")

    with pytest.raises(ValueError, match=r"jepa needs cameras, success; the data set has \['state'\]"):
        Trainer(load_episodes(planar, None), np.arange(5), (), STAGES, 0, family=Seeing)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)

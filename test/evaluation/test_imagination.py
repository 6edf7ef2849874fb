"""The figures of imagination, on models whose answers are known, and on the model that ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.config import defaults
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.evaluation.imagination import Imagination, evaluate, plot, probe
from wm_vla_ros.report import Figure
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.training.sequences import grounding_names, positions

OBJECTS = tuple(f"{cube}_cube.{axis}" for cube in ("red", "blue") for axis in "xyz")
LENGTH, EPISODES = 60, 24


@pytest.fixture(scope="module")
def data(spec: RobotSpec) -> EpisodeArrays:
    """The tip moves by its actions; from tick 20 on the red cube does, too. A pixel holds the row number."""
    rng, names, rows = np.random.default_rng(0), proprio_names(spec), LENGTH * EPISODES
    actions = np.zeros((rows, 7), np.float32)
    actions[:, :3] = np.repeat(rng.uniform(-0.2, 0.2, (EPISODES, 3)), LENGTH, axis=0)
    steps = actions[:, :3] * spec.translation_scale
    tip, cube = np.zeros((rows, 3)), np.zeros((rows, 6))
    for row in range(rows):
        if row % LENGTH == 0:
            tip[row], cube[row] = rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.1, 0.1, 6)
            continue
        tip[row] = tip[row - 1] + steps[row - 1]
        cube[row] = cube[row - 1]
        cube[row, :3] += steps[row - 1] * (row % LENGTH > 20)
    states = np.zeros((rows, len(names)), np.float32)
    states[:, [names.index(f"tip.position.{axis}") for axis in "xyz"]] = tip
    images = np.zeros((rows, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(rows), 256)
    return EpisodeArrays(
        images={"front": images},
        frame_rows=np.arange(rows),
        row_frame=np.arange(rows),
        states=states,
        actions=actions,
        expert_actions=actions,
        environment=cube.astype(np.float32),
        disturbed=np.zeros(rows, bool),
        success=np.zeros(rows, bool),
        starts=np.arange(0, rows + 1, LENGTH),
        episode_tasks=np.zeros(EPISODES, np.int64),
        seeds=np.arange(EPISODES),
        tasks=("play",),
        state_names=names,
        action_names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
        environment_names=OBJECTS,
        robot=spec.name,
        dt=spec.dt,
    )


class KnownModel:
    """Reads the truth from the row number in the image. latent: 9 positions in units of 0.1 m, then noise.

    moves: what the dynamics makes of actions (N, H, 7) and latents (N, 9), positions (N, H, 9) in metres.
    sees: which of the 9 positions reach the latent. noise: standard deviation of the encoder's, in metres.
    """

    latent_dim, action_dim, dt, encoder_id = 9, 7, 0.02, "known-1"

    def __init__(
        self,
        data: EpisodeArrays,
        moves: Callable[[np.ndarray, np.ndarray], np.ndarray],
        sees: tuple[int, ...] = tuple(range(9)),
        noise: float = 0.0,
    ) -> None:
        self.grounding_names = grounding_names(data)
        self.manifest = SimpleNamespace(
            name="known",
            robot=data.robot,
            proprio_names=data.state_names,
            grounding_names=self.grounding_names,
            cameras={"front": (4, 4)},
        )
        self._truth, self._moves = positions(data), moves
        self._mask = np.isin(np.arange(9), sees).astype(np.float32)
        self._noise, self._rng = noise, np.random.default_rng(7)

    def encode(self, images: dict[str, np.ndarray], proprio: np.ndarray) -> np.ndarray:
        high, low = images["front"][0, 0, :2]
        truth = self._truth[int(high) * 256 + int(low)] + self._rng.normal(0, self._noise or 0.0, 9)
        return (10.0 * truth * self._mask).astype(np.float32)

    def predict(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return self.rollout(latents, actions[:, None])[:, 0]

    def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return (10.0 * self._moves(0.1 * latents, actions) * self._mask).astype(np.float32)

    def ground(self, latents: np.ndarray) -> np.ndarray:
        return 0.1 * latents


def still(start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return np.repeat(start[:, None], actions.shape[1], axis=1)


def tip_only(start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Knows the arm, not that it pushes."""
    out = still(start, actions)
    out[..., :3] += np.cumsum(actions[..., :3] * 0.02, axis=1)
    return out


def tip_and_half_the_push(start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    out = tip_only(start, actions)
    out[..., 3:6] += 0.5 * np.cumsum(actions[..., :3] * 0.02, axis=1)
    return out


def figures(model: KnownModel, data: EpisodeArrays) -> dict[str, Figure]:
    fit = data.frame_rows[data.frame_rows < 12 * LENGTH]
    imagination = Imagination(model, data, np.arange(12, EPISODES))
    return {figure.name: figure for figure in imagination.figures(data, fit[::3])}


def test_exact_arm_has_no_error_and_slope_one(data: EpisodeArrays) -> None:
    found = figures(KnownModel(data, tip_only), data)
    assert found["imagination.tip_mm_20"].value == pytest.approx(0.0, abs=1e-2)
    assert found["imagination.tip_slope_10"].value == pytest.approx(1.0, abs=1e-4)
    assert found["imagination.probe_r2_tip"].value > 0.999
    assert found["imagination.probe_r2_cube"].value > 0.999


def test_persistence_has_ratio_one_and_predicts_no_contact(data: EpisodeArrays) -> None:
    found = figures(KnownModel(data, still), data)
    for ticks in (5, 10, 20):
        assert found[f"imagination.ratio_{ticks}"].value == pytest.approx(1.0)
    assert found["imagination.contact_20"].value == pytest.approx(0.0, abs=1e-6)
    assert found["imagination.tip_slope_10"].value == pytest.approx(0.0)


def test_contact_is_the_share_of_a_pushed_cubes_motion(data: EpisodeArrays) -> None:
    """Judged once the red cube is on its way; windows that begin before are pushed for a part only."""
    on_the_way = np.concatenate([np.arange(start + 20, start + LENGTH) for start in data.starts[:-1]])
    later = replace(
        data,
        frame_rows=on_the_way,
        row_frame=np.searchsorted(on_the_way, np.arange(len(data.actions)), side="right") - 1,
        images={"front": data.images["front"][on_the_way]},
    )
    imagination = Imagination(KnownModel(data, tip_and_half_the_push), later, np.arange(EPISODES))
    true, imagined, _ = imagination.pushed(20)
    assert len(true) > 100
    np.testing.assert_allclose(imagined, 0.5 * true, atol=1e-4)
    found = {figure.name: figure for figure in imagination.figures(later, on_the_way[::5])}
    assert found["imagination.contact_20"].value == pytest.approx(0.5, abs=1e-3)


def test_collapsed_encoder_has_the_better_latent_error_and_is_caught_by_the_probe(
    data: EpisodeArrays,
) -> None:
    """Without grounding, an encoder that forgets the cubes has nothing hard left to predict."""
    honest = figures(KnownModel(data, tip_only, noise=0.002), data)
    collapsed = figures(KnownModel(data, tip_only, sees=(0, 1, 2), noise=0.002), data)
    assert collapsed["imagination.ratio_10"].value < 0.8 * honest["imagination.ratio_10"].value
    assert honest["imagination.probe_r2_cube"].value > 0.98
    assert collapsed["imagination.probe_r2_cube"].value < 0.2
    assert collapsed["imagination.probe_r2_tip"].value > 0.98


def test_intervals_hold_the_value_and_grow_with_fewer_episodes(data: EpisodeArrays) -> None:
    model = KnownModel(data, tip_only, noise=0.002)
    widths = []
    for count in (3, 20):
        imagination = Imagination(model, data, np.arange(count))
        found = {figure.name: figure for figure in imagination.figures(data, data.frame_rows[::7])}
        figure = found["imagination.ratio_10"]
        assert figure.low <= figure.value <= figure.high
        widths.append(figure.high - figure.low)
    assert widths[0] > widths[1]


def test_horizon_without_an_image_moves_up_and_says_so(data: EpisodeArrays) -> None:
    every_second = replace(
        data,
        frame_rows=data.frame_rows[::2],
        row_frame=data.row_frame // 2,
        images={"front": data.images["front"][::2]},
    )
    imagination = Imagination(KnownModel(data, still), every_second, np.arange(EPISODES))
    assert imagination.horizons == (6, 10, 20)


@pytest.mark.filterwarnings("error")
def test_nothing_pushed_is_said_and_not_a_number(data: EpisodeArrays) -> None:
    resting = replace(data, environment=np.zeros_like(data.environment))
    found = figures(KnownModel(resting, still), resting)
    assert np.isnan(found["imagination.contact_20"].value)
    assert found["imagination.contact_20"].n == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"robot": "so100"}, "robot: the model known has so101, the data set so100"),
        ({"state_names": tuple("abcdefghijklmnopqr")}, "proprio_names: the model known has"),
        ({"images": {"wrist": np.zeros((1, 4, 4, 3), np.uint8)}}, r"no camera \['front'\]; it has"),
    ],
)
def test_data_of_another_layout_are_refused(
    data: EpisodeArrays, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Imagination(KnownModel(data, still), replace(data, **change), np.arange(4))


def test_probe_recovers_a_linear_map_of_other_samples() -> None:
    rng = np.random.default_rng(1)
    latents, mix = rng.normal(size=(500, 6)).astype(np.float32), rng.normal(size=(6, 2))
    guess = probe(latents[:300], latents[:300] @ mix, latents[300:])
    np.testing.assert_allclose(guess, latents[300:] @ mix, atol=0.02)


def test_plot_is_a_png(data: EpisodeArrays, tmp_path: Path) -> None:
    imagination = Imagination(KnownModel(data, tip_only), data, np.arange(4))
    plot(imagination, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_data_that_were_trained_on_are_no_evidence(tmp_path: Path) -> None:
    model = world_models.load(defaults().world_model)
    with pytest.raises(ValueError, match="is what .* was trained on"):
        evaluate(defaults().world_model, tmp_path / model.manifest.dataset[0])


@pytest.mark.slow
def test_the_shipped_model_imagines_fresh_episodes(tmp_path: Path) -> None:
    """Better than persistence, with the world still in the latent, in scenes that no training saw."""
    shares: list[float] = []
    report = evaluate(
        defaults().world_model, episodes=3, windows=400, progress=lambda share, note: shares.append(share)
    )
    found = {figure.name: figure.value for figure in report.figures}
    assert found["imagination.ratio_5"] < 0.6
    assert found["imagination.ratio_10"] < 0.4
    assert found["imagination.ratio_20"] < 0.4
    assert found["imagination.probe_r2_tip"] > 0.98
    assert found["imagination.probe_r2_cube"] > 0.9
    assert found["imagination.tip_mm_10"] < 3.0
    assert found["imagination.tip_slope_10"] == pytest.approx(1.0, abs=0.03)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

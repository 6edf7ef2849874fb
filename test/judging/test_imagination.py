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
from wm_vla_ros.data.sequences import grounding_names, positions
from wm_vla_ros.judging.encodings import probe
from wm_vla_ros.judging.imagination import Imagination
from wm_vla_ros.judging.imagination_judge import evaluate
from wm_vla_ros.judging.imagination_plot import plot
from wm_vla_ros.judging.judged import part
from wm_vla_ros.report import Figure

LENGTH, EPISODES = 60, 24  # of the fixture `data`


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

    def spread(self, latents: np.ndarray) -> None:
        """It imagines no distribution."""


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


def noisy_at_first(start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    out = wrong_after_20(start, actions)
    out[:, :1] += 0.1
    return out


def wrong_after_20(start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    out = tip_only(start, actions)
    out[:, 20:] += 1.0
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
    for ticks in (1, 5, 10, 20, 50):
        assert found[f"imagination.ratio_{ticks}"].value == pytest.approx(1.0)
    assert found["imagination.horizon"].value == 0
    assert found["imagination.contact_20"].value == pytest.approx(0.0, abs=1e-6)
    assert found["imagination.tip_slope_10"].value == pytest.approx(0.0)


@pytest.mark.parametrize("moves, horizon", [(tip_only, 55), (wrong_after_20, 20), (noisy_at_first, 20)])
def test_horizon_is_where_persistence_becomes_as_good(
    data: EpisodeArrays, moves: Callable[[np.ndarray, np.ndarray], np.ndarray], horizon: int
) -> None:
    """The longest that these episodes allow is 55 ticks; a model that is never worse gets all of it."""
    found = figures(KnownModel(data, moves), data)
    assert found["imagination.horizon"].value == horizon
    assert found["imagination.horizon"].low <= horizon <= found["imagination.horizon"].high
    assert found["imagination.horizon_searched"].value == 55
    assert found["imagination.horizon_tip"].value == horizon


def test_a_model_of_the_arm_alone_has_no_horizon_for_cubes(data: EpisodeArrays) -> None:
    """The arm moves most: over the whole latent it hides that nothing is known of what it pushes."""
    arm = figures(KnownModel(data, tip_only), data)
    assert (arm["imagination.horizon"].value, arm["imagination.horizon_cube"].value) == (55, 0)


def test_long_horizons_are_judged_on_long_windows_only(data: EpisodeArrays) -> None:
    """Short episodes must not keep 5 ticks from being judged everywhere, nor be read past their end."""
    imagination = Imagination(KnownModel(data, tip_only), data, np.arange(EPISODES))
    assert len(imagination.error(5)[0]) == EPISODES * (LENGTH - 20)
    assert len(imagination.error(50)[0]) == EPISODES * (LENGTH - 50)
    assert np.all(data.row_episode()[imagination.rows[imagination.windows(50)] + 50]
                  == imagination.episode[imagination.windows(50)])  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_horizon_that_no_episode_reaches_is_null(data: EpisodeArrays) -> None:
    starts = np.arange(0, LENGTH * EPISODES + 1, LENGTH // 2)
    short = replace(
        data, starts=starts, seeds=np.arange(2 * EPISODES), episode_tasks=np.zeros(2 * EPISODES, np.int64)
    )
    found = figures(KnownModel(short, tip_only), short)
    assert np.isnan(found["imagination.ratio_50"].value)
    assert found["imagination.ratio_20"].value < 1.0


def test_linear_forecast_of_linear_motion_is_right_and_of_the_unforeseeable_is_not(
    data: EpisodeArrays,
) -> None:
    fit = data.frame_rows[data.frame_rows < 12 * LENGTH]
    ratio = {}
    for name, sees in (("tip", (0, 1, 2)), ("cube", (3, 4, 5))):
        imagination = Imagination(KnownModel(data, still, sees=sees), data, np.arange(12, EPISODES))
        found = {figure.name: figure.value for figure in imagination.linear_figures(data, fit)}
        ratio[name] = found["imagination.ratio_linear_10"]
    assert ratio["tip"] < 1e-3
    # Whether the cube is moving is not in the latent.
    assert 0.05 < ratio["cube"] < 1.0


def test_linear_forecast_without_enough_windows_is_null(data: EpisodeArrays) -> None:
    imagination = Imagination(KnownModel(data, still), data, np.arange(12, EPISODES))
    found = {figure.name: figure for figure in imagination.linear_figures(data, data.frame_rows[:20])}
    assert np.isnan(found["imagination.ratio_linear_10"].value)


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
    assert imagination.horizons == (2, 6, 10, 20, 50)
    assert imagination.contact_ticks == 20
    names = {figure.name for figure in imagination.figures(every_second, every_second.frame_rows[::5])}
    assert "imagination.ratio_6" in names
    assert "imagination.ratio_5" not in names


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


def test_plots_are_pngs(data: EpisodeArrays, tmp_path: Path) -> None:
    models = {"good": KnownModel(data, tip_only), "idle": KnownModel(data, still)}
    judged = {name: Imagination(model, data, np.arange(4)) for name, model in models.items()}
    plot({"good": judged["good"]}, (), tmp_path / "one.png")
    linear = [
        Figure(f"{name}.{figure.name}", figure.value)
        for name, imagination in judged.items()
        for figure in imagination.linear_figures(data, data.frame_rows)
    ]
    plot(judged, linear, tmp_path / "two.png")
    for name in ("one.png", "two.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_data_that_were_trained_on_are_no_evidence(tmp_path: Path) -> None:
    model = world_models.load(defaults().world_model)
    with pytest.raises(ValueError, match="is what .* was trained on"):
        evaluate([defaults().world_model], tmp_path / model.manifest.dataset[0])


@pytest.mark.slow
def test_the_shipped_model_imagines_fresh_episodes(tmp_path: Path) -> None:
    """Better than persistence, with the world still in the latent, in scenes that no training saw."""
    shares: list[float] = []
    report, draw = evaluate(
        [defaults().world_model], episodes=3, windows=400, progress=lambda share, note: shares.append(share)
    )
    found = {figure.name: figure.value for figure in report.figures}
    assert found["imagination.ratio_5"] < 0.6
    assert found["imagination.ratio_10"] < 0.4
    assert found["imagination.ratio_20"] < 0.4
    assert found["imagination.probe_r2_tip"] > 0.98
    assert found["imagination.probe_r2_cube"] > 0.9
    assert found["imagination.tip_mm_10"] < 3.0
    assert found["imagination.tip_slope_10"] == pytest.approx(1.0, abs=0.03)
    assert found["imagination.ratio_10"] < found["imagination.ratio_linear_10"]
    assert found["imagination.horizon"] >= 50
    draw(tmp_path / "plot.png")
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_part_of_the_work_ends_where_the_next_begins() -> None:
    """0.3 + (0.9 - 0.3) is more than 0.9: a progress bar went back by a hair."""
    shares: list[float] = []
    first = part(lambda share, note: shares.append(share), 0.3, 0.9)
    for done in range(11):
        first(done / 10, "")
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.3, 0.9)

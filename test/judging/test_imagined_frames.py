"""Imagined frames on a world whose pictures are known: what the decoder is to blame for, and what not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import grounding_names, positions
from wm_vla_ros.judging.film_strip import Strip, draw_strips
from wm_vla_ros.judging.imagination import Imagination
from wm_vla_ros.judging.imagination_plot import plot
from wm_vla_ros.judging.imagined_frames import ImaginedFrames, strips, telling_windows
from wm_vla_ros.report import Figure
from wm_vla_ros.world_models.small_images import block_means

LENGTH = 60  # rows of an episode of `data`


class Painter:
    """Latents of two numbers, which are the image's red and green; actions add to them.

    gain: how much of the motion the dynamics knows. off: what the decoder adds to every pixel.
    """

    latent_dim, dt, camera, size = 2, 0.02, "front", (2, 2)

    def __init__(self, data: EpisodeArrays, gain: float = 1.0, off: float = 0.0) -> None:
        self.gain, self.off = gain, off
        self.manifest = SimpleNamespace(
            name="painter",
            robot=data.robot,
            proprio_names=data.state_names,
            grounding_names=grounding_names(data),
            cameras={"front": (4, 4)},
        )

    def encode(self, images: dict[str, np.ndarray], proprio: np.ndarray) -> np.ndarray:
        return images["front"][0, 0, :2].astype(np.float32)

    def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return latents[:, None] + self.gain * np.cumsum(actions[..., :2], axis=1)

    def draw(self, latents: np.ndarray) -> np.ndarray:
        out = np.zeros((len(latents), 2, 2, 3), np.float32)
        out[..., :2] = latents[:, None, None]
        return np.rint(out + self.off).astype(np.uint8)

    def small(self, images: np.ndarray) -> np.ndarray:
        return block_means(images, self.size)


@pytest.fixture(scope="module")
def painted(data: EpisodeArrays) -> EpisodeArrays:
    """Every episode has a colour of its own, and a pace at which it grows brighter."""
    rows = np.arange(len(data.actions))
    actions = np.zeros_like(data.actions)
    actions[:, :2] = 1 + (rows // LENGTH % 2)[:, None]
    images = np.zeros((len(rows), 4, 4, 3), np.uint8)
    images[..., :2] = (10 + actions[:, :2] * (rows % LENGTH)[:, None])[:, None, None]
    return replace(
        data, actions=actions, images={"front": images}, tasks=("reach the brightest of all lights",)
    )


def imagined(data: EpisodeArrays, **kind: float) -> ImaginedFrames:
    model = Painter(data, **kind)
    return ImaginedFrames(Imagination(model, data, np.arange(data.episodes)), model)


def found(data: EpisodeArrays, **kind: float) -> dict[str, Figure]:
    return {
        figure.name.removeprefix("imagination.pixels_over_"): figure
        for figure in imagined(data, **kind).figures()
    }


def test_figures_are_given_at_all_horizons_but_the_nearest(painted: EpisodeArrays) -> None:
    names = [f"{rival}_{ticks}" for ticks in (5, 10, 20, 50) for rival in ("still", "decoder")]
    assert list(found(painted)) == names


def test_exact_dynamics_are_not_to_blame(painted: EpisodeArrays) -> None:
    """All of the error is the decoder's: 3 grey levels in each of 12 numbers, whatever the motion."""
    figures = found(painted, off=3.0)
    assert figures["decoder_10"].value == pytest.approx(1.0)
    # Episodes move by 10 or 20 levels in 10 ticks, in two of three colours.
    assert figures["still_10"].value == pytest.approx(3 * 9.0 / (2 * (100 + 400) / 2), rel=0.02)
    assert found(painted)["still_50"].value == 0.0


def test_a_dynamics_that_stands_still_is_as_good_as_the_first_frame(painted: EpisodeArrays) -> None:
    figures = found(painted, gain=0.0, off=0.0)
    for ticks in (5, 10, 20, 50):
        assert figures[f"still_{ticks}"].value == pytest.approx(1.0)
        # A decoder without error leaves nothing to divide by.
        assert np.isnan(figures[f"decoder_{ticks}"].value)


def test_half_of_the_motion_leaves_a_quarter_of_the_error(painted: EpisodeArrays) -> None:
    figures = found(painted, gain=0.5)
    assert figures["still_20"].value == pytest.approx(0.25, abs=0.01)
    assert figures["still_20"].low <= figures["still_20"].value <= figures["still_20"].high
    assert found(painted, gain=0.5, off=3.0)["decoder_20"].value > 4.0


@pytest.mark.filterwarnings("error")
def test_episodes_that_are_too_short_have_no_figure_and_shorter_strips(painted: EpisodeArrays) -> None:
    half = replace(
        painted,
        starts=np.arange(0, len(painted.actions) + 1, LENGTH // 2),
        episode_tasks=np.zeros(2 * painted.episodes, np.int64),
        seeds=np.arange(2 * painted.episodes),
    )
    figures = found(half, off=3.0)
    assert np.isnan(figures["still_50"].value)
    assert figures["still_50"].n == 0
    assert figures["still_20"].n == 300
    assert {len(strip.images) for strip in strips({"painter": imagined(half)})} == {4}


def test_one_window_of_each_third_of_the_episodes_and_that_in_which_most_happens(
    painted: EpisodeArrays,
) -> None:
    """Every second episode moves twice as fast."""
    frames = imagined(painted)
    windows = telling_windows(frames)
    episodes = frames.imagination.episode[windows]
    assert (episodes * 3 // painted.episodes).tolist() == [0, 1, 2]
    assert (episodes % 2).tolist() == [1, 1, 1]


def test_strips_show_what_was_seen_above_what_was_drawn(painted: EpisodeArrays) -> None:
    film = strips({"good": imagined(painted, off=3.0), "idle": imagined(painted, gain=0.0)})
    assert [strip.label for strip in film[:5]] == [
        "front saw",
        "good:\nof what came",
        "good:\nimagined",
        "idle:\nof what came",
        "idle:\nimagined",
    ]
    assert len(film) == 15
    assert film[0].titles == ["reach the brightest of [...]\nnow", "0.10 s", "0.20 s", "0.40 s", "1.00 s"]
    seen, _, good, _, idle = ([int(image[0, 0, 0]) for image in strip.images] for strip in film[:5])
    assert np.diff(seen).tolist() == [10, 10, 20, 60]
    assert good == [level + 3 for level in seen]
    assert idle == [seen[0]] * 5


def test_the_picture_has_the_frames_below_the_curves(painted: EpisodeArrays, tmp_path: Path) -> None:
    """Of one model, whose grounding is the data's own positions here."""
    frames = imagined(painted)
    model = frames.imagination.model
    model.ground = lambda latents: np.zeros((len(latents), positions(painted).shape[1]), np.float32)
    heights = []
    for name, drawn in (("without", None), ("with", {"painter": frames})):
        path = tmp_path / f"{name}.png"
        plot({"painter": frames.imagination}, (), path, drawn)
        heights.append(int.from_bytes(path.read_bytes()[20:24]))
    assert heights[1] > heights[0] + 9 * 80


def test_strips_may_have_gaps_and_lengths_of_their_own() -> None:
    from matplotlib.figure import Figure as Canvas

    canvas, image = Canvas(), np.zeros((4, 4, 3), np.uint8)
    draw_strips(canvas, [Strip("long", [image, None, image], ["a", "b", "c"]), Strip("short", [image])])
    assert [len(axis.images) for axis in canvas.axes] == [1, 0, 1, 1, 0, 0]
    assert [axis.get_title() for axis in canvas.axes] == ["a", "b", "c", "", "", ""]
    assert canvas.axes[3].get_ylabel() == "short"

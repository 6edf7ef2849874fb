"""Rank, probes and verdict on encoders whose answers are known, and the embedding's neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import grounding_names, positions
from wm_vla_ros.judging.judged import spread
from wm_vla_ros.lab.latent_space import effective_rank, judge, nearest_cube, plot
from wm_vla_ros.lab.tsne import tsne

HALF = 12 * 60  # rows of the first half of the episodes


class Encoder:
    """Latents (D,) that are a function of the true positions (9,) and joints of the row in the image."""

    def __init__(self, data: EpisodeArrays, encode: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self._truth, self._encode = positions(data), encode
        self.latent_dim = len(encode(self._truth[0], data.states[0]))
        self.manifest = SimpleNamespace(
            name="known",
            robot=data.robot,
            proprio_names=data.state_names,
            grounding_names=grounding_names(data),
            cameras={"front": (4, 4)},
        )

    def encode(self, images: dict[str, np.ndarray], proprio: np.ndarray) -> np.ndarray:
        high, low = images["front"][0, 0, :2]
        return self._encode(self._truth[int(high) * 256 + int(low)], proprio)


def judged(data: EpisodeArrays, encode: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, object]:
    """Judged on the second half of the episodes, fitted on all of them."""
    space = judge(Encoder(data, encode), data, data.frame_rows[data.frame_rows >= HALF], data)
    return {figure.name: figure.value for figure in space.figures}


def test_an_encoder_that_keeps_the_world_passes(data: EpisodeArrays) -> None:
    mix = np.linalg.qr(np.random.default_rng(3).normal(size=(32, 9)))[0]
    found = judged(data, lambda where, state: (mix @ where).astype(np.float32))
    assert found["probe.r2_tip"] > 0.99
    assert found["probe.r2_cube"] > 0.99
    assert 5.0 < found["latent.rank"] <= 9.01
    assert found["latent.collapsed"] is False


def test_a_constant_encoder_has_collapsed(data: EpisodeArrays) -> None:
    found = judged(data, lambda where, state: np.ones(16, np.float32))
    assert found["latent.rank"] == pytest.approx(1.0)
    assert abs(found["probe.r2_cube"]) < 0.1
    assert found["latent.collapsed"] is True


def test_an_encoder_of_one_direction_has_collapsed(data: EpisodeArrays) -> None:
    direction = np.random.default_rng(1).normal(size=16)
    found = judged(data, lambda where, state: (where[0] * direction).astype(np.float32))
    assert found["latent.rank"] == pytest.approx(1.0, abs=1e-3)
    assert found["probe.r2_cube"] < 0.2
    assert found["latent.collapsed"] is True


def test_an_encoder_that_sees_the_arm_only_has_collapsed_whatever_its_rank(data: EpisodeArrays) -> None:
    """Noise has a high rank, and the arm is in the proprioception: neither is a cube."""
    rng = np.random.default_rng(2)
    found = judged(data, lambda where, state: np.r_[where[:3], rng.normal(size=20)].astype(np.float32))
    assert found["latent.rank"] > 10
    assert found["probe.r2_tip"] > 0.95
    assert found["probe.r2_cube"] < 0.3
    assert found["latent.collapsed"] is True


def test_joints_are_probed_beside_the_tip(data: EpisodeArrays) -> None:
    rng = np.random.default_rng(4)
    states = data.states.copy()
    joints = [at for at, name in enumerate(data.state_names) if name.endswith(".position")]
    assert "gripper.position" in [data.state_names[at] for at in joints]
    states[:, joints] = rng.normal(size=(len(states), len(joints)))
    moving = replace(data, states=states)
    blind = judged(moving, lambda where, state: where.astype(np.float32))
    seeing = judged(moving, lambda where, state: np.r_[where, state[joints]].astype(np.float32))
    assert blind["probe.r2_joints"] < 0.1
    assert seeing["probe.r2_joints"] > 0.99


@given(ways=st.integers(1, 12), seed=st.integers(0, 100))
def test_rank_counts_directions_of_equal_spread(ways: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    flat = np.zeros((4000, 16))
    flat[:, :ways] = rng.normal(size=(4000, ways))
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    assert effective_rank(flat @ turn * 3.0 + 5.0) == pytest.approx(ways, rel=0.02)


@pytest.mark.parametrize("latents", [np.zeros((1, 4)), np.full((5, 4), np.nan)])
def test_rank_of_nothing_is_refused(latents: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two or more finite latents"):
        effective_rank(latents)


def test_gap_to_the_nearest_cube(data: EpisodeArrays) -> None:
    where = positions(data)
    gaps = [np.linalg.norm(where[7, :3] - where[7, at : at + 3]) for at in (3, 6)]
    assert nearest_cube(data)[7] == pytest.approx(min(gaps))


def neighbours(points: np.ndarray, count: int) -> np.ndarray:
    gaps = np.linalg.norm(points[:, None] - points, axis=-1)
    return np.argsort(gaps, axis=1)[:, 1 : count + 1]


def test_tsne_keeps_neighbours_where_a_projection_does_not() -> None:
    """Clusters in ten dimensions that fall on each other in any plane."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(10), 30)
    points = 10.0 * np.eye(10)[cluster] + rng.normal(size=(300, 10))
    placed = tsne(points, perplexity=20.0)
    centred = points - points.mean(0)
    projected = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    pure = [np.mean(cluster[neighbours(each, 10)] == cluster[:, None]) for each in (placed, projected)]
    assert pure[0] > 0.99
    assert pure[1] < 0.8


def test_tsne_unrolls_a_curve_and_is_the_same_each_time() -> None:
    along = np.linspace(0.0, 3.0, 200)
    curve = np.stack([np.cos(along), np.sin(along), 0.3 * along, along**2], axis=1)
    placed = tsne(curve, perplexity=15.0)
    kept = [
        len(set(a) & set(b)) / 10 for a, b in zip(neighbours(curve, 10), neighbours(placed, 10), strict=True)
    ]
    assert np.mean(kept) > 0.8
    np.testing.assert_array_equal(placed, tsne(curve, perplexity=15.0))


def test_tsne_survives_points_that_are_all_the_same() -> None:
    assert np.all(np.isfinite(tsne(np.ones((60, 4)), perplexity=5.0)))


@pytest.mark.parametrize(
    "points, perplexity, message",
    [
        (np.zeros((1501, 2)), 30.0, "up to 1500 finite points"),
        (np.full((50, 2), np.inf), 5.0, "finite points"),
        (np.zeros((50, 2)), 30.0, "a third of 50 points"),
    ],
)
def test_tsne_refuses_what_it_cannot_embed(points: np.ndarray, perplexity: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tsne(points, perplexity)


def test_spread_takes_all_or_that_many() -> None:
    values = np.arange(10)
    np.testing.assert_array_equal(spread(values, 20), values)
    np.testing.assert_array_equal(spread(values, 4), [0, 3, 6, 9])


def test_plot_is_a_png(data: EpisodeArrays, tmp_path: Path) -> None:
    rows = data.frame_rows[::10]
    space = judge(Encoder(data, lambda where, state: where.astype(np.float32)), data, rows, data)
    plot({"known": space}, data, 100, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

"""Surprise of models whose answers are known, and what the impossible endings look like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.config import defaults
from wm_vla_ros.judging.held_out import Cameras
from wm_vla_ros.lab.impossible import KINDS, TICKS, Moments, impossible_end, record_moments
from wm_vla_ros.lab.surprise import auroc, plot, score
from wm_vla_ros.robots.spec import RobotSpec

MOMENTS, EPISODES = 240, 24


@pytest.fixture(scope="module")
def moments() -> Moments:
    """A dot's place in 0..255 is the pixel's value. Actions move it; the impossible end is 10 to 60 away."""
    rng = np.random.default_rng(0)
    before = rng.integers(80, 170, MOMENTS)
    actions = rng.integers(-4, 5, (MOMENTS, TICKS, 1)).astype(np.float32)
    after = before + actions.sum((1, 2)).astype(int)
    changed = after + rng.choice([-1, 1], MOMENTS) * rng.integers(10, 60, MOMENTS)

    def images(values: np.ndarray) -> dict[str, np.ndarray]:
        return {"front": np.broadcast_to(values[:, None, None, None], (MOMENTS, 2, 2, 3)).astype(np.uint8)}

    proprio = np.zeros((MOMENTS, 1), np.float32)
    kind = np.array(KINDS)[np.arange(MOMENTS) % len(KINDS)]
    episode = np.arange(MOMENTS) // (MOMENTS // EPISODES)
    return Moments(images(before), images(after), images(changed), proprio, proprio, actions, kind, episode)


class Dot:
    """latent: (place, a constant), grounded as a cube's x and y. knows: imagination follows the actions."""

    manifest = SimpleNamespace(name="dot", cameras={"front": (2, 2)})
    grounding_names: tuple[str, ...] = ("dot_cube.x", "dot_cube.y", "dot_cube.z")

    def __init__(self, knows: bool = True, blind: bool = False, noise: float = 0.5) -> None:
        self._knows, self._blind = knows, blind
        self._noise, self._rng = noise, np.random.default_rng(1)

    def encode(self, images: dict[str, np.ndarray], proprio: np.ndarray) -> np.ndarray:
        place = 0.0 if self._blind else float(images["front"][0, 0, 0]) + self._rng.normal(0, self._noise)
        return np.array([place, 1.0], np.float32)

    def ground(self, latents: np.ndarray) -> np.ndarray:
        return np.concatenate([latents, np.zeros_like(latents[..., :1])], axis=-1)

    def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
        out = np.repeat(latents[:, None], actions.shape[1], axis=1)
        if self._knows:
            out[..., 0] += np.cumsum(actions[..., 0], axis=1)
        return out


def figures(model: Dot, moments: Moments) -> dict[str, float]:
    return {figure.name: float(figure.value) for figure in score(model, moments).figures()}


def test_an_oracle_is_never_fooled(moments: Moments) -> None:
    found = figures(Dot(), moments)
    assert found["surprise.auroc"] == pytest.approx(1.0)
    assert found["surprise.pairs"] == pytest.approx(1.0)
    for kind in KINDS:
        assert found[f"surprise.auroc_{kind}"] == pytest.approx(1.0)
    assert found["surprise.auroc_persistence"] < 0.95


def test_a_model_that_expects_no_motion_is_as_good_as_persistence(moments: Moments) -> None:
    found = figures(Dot(knows=False), moments)
    assert found["surprise.auroc"] == pytest.approx(found["surprise.auroc_persistence"])


def test_an_encoder_that_sees_nothing_is_at_chance(moments: Moments) -> None:
    """A collapsed model predicts itself perfectly, and nothing surprises it."""
    found = figures(Dot(blind=True), moments)
    assert found["surprise.auroc"] == pytest.approx(0.5)
    assert found["surprise.pairs"] == pytest.approx(0.5)


def test_surprise_is_in_units_of_the_usual_error(moments: Moments) -> None:
    scores = score(Dot(noise=2.0), moments)
    # The dot's direction carries all the error, and is half of the latent.
    assert np.sqrt(np.mean(scores.possible**2)) == pytest.approx(np.sqrt(0.5), rel=0.2)


def test_what_is_not_about_cubes_surprises_nobody_but_the_latent(moments: Moments) -> None:
    """The arm fills most of a latent: what is wrong there must not hide what is wrong of a cube."""

    class Armed(Dot):
        def encode(self, images: dict[str, np.ndarray], proprio: np.ndarray) -> np.ndarray:
            arm = self._rng.choice([0.01, 1.0], p=[0.9, 0.1]) * self._rng.normal(0, 1, 8)
            return np.concatenate([super().encode(images, proprio), arm]).astype(np.float32)

        def ground(self, latents: np.ndarray) -> np.ndarray:
            return super().ground(latents[..., :2])

    found = figures(Armed(noise=4.0), moments)
    assert found["surprise.auroc"] > 0.95
    assert found["surprise.auroc_latent"] < found["surprise.auroc"] - 0.02


def test_a_model_that_grounds_no_cube_is_refused(moments: Moments) -> None:
    model = Dot()
    model.grounding_names = ("tip.x", "tip.y", "tip.z")
    with pytest.raises(ValueError, match="dot grounds no cube that could surprise it"):
        score(model, moments)


def test_moments_that_tell_what_is_usual_are_not_judged(moments: Moments) -> None:
    assert set(score(Dot(), moments).episode) == {n for n in range(EPISODES) if n % 3}
    with pytest.raises(ValueError, match="need moments of 3 episodes, got \\[0\\]"):
        score(Dot(), replace(moments, episode=np.zeros(MOMENTS, np.int64)))


def test_auroc_is_the_chance_of_ranking_right() -> None:
    episode = np.arange(4)
    figure = auroc("a", np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.0, 1.0, 2.0, 0.0]), episode)
    assert figure.value == pytest.approx((4 + 2.5 + 3.5 + 3.5) / 16)
    assert figure.low <= figure.value <= figure.high
    same = auroc("a", np.ones(4), np.ones(4), episode)
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)


def test_plot_is_a_png(moments: Moments, tmp_path: Path) -> None:
    plot({"dot": score(Dot(), moments)}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


POSES = np.array(
    [[0.2, 0.1, 0.0125, 1, 0, 0, 0], [0.2, 0.0, 0.0125, 1, 0, 0, 0], [0.2, -0.1, 0.0125, 1, 0, 0, 0]], float
)
FAR = np.array([0.2, 0.05, 0.2])


def test_a_teleported_cube_is_elsewhere_and_free(spec: RobotSpec) -> None:
    for seed in range(50):
        found = impossible_end("teleport", POSES, POSES, (FAR, FAR), np.random.default_rng(seed))
        if found is None:
            continue
        cube, changed = found
        others = np.delete(np.arange(3), cube)
        np.testing.assert_array_equal(changed[others], POSES[others])
        assert 0.04 <= np.linalg.norm(changed[cube, :2] - POSES[cube, :2]) <= 0.10
        assert np.linalg.norm(changed[others, :2] - changed[cube, :2], axis=1).min() >= 0.0375
        assert changed[cube, 2] == POSES[cube, 2]


def test_a_cube_that_was_pushed_is_passed_through() -> None:
    after = POSES.copy()
    after[1, 1] += 0.03
    found = impossible_end("pass_through", POSES, after, (FAR, FAR), np.random.default_rng(0))
    assert found is not None
    assert found[0] == 1
    np.testing.assert_array_equal(found[1], POSES)
    rng = np.random.default_rng(0)
    assert impossible_end("pass_through", POSES, POSES, (FAR, FAR), rng) is None


def test_only_a_cube_that_nothing_is_near_moves_without_contact() -> None:
    beside = POSES[1, :3] + [0.0, 0.02, 0.0]
    moved = set()
    for seed in range(30):
        found = impossible_end("no_contact", POSES, POSES, (beside, FAR), np.random.default_rng(seed))
        if found is not None:
            cube, changed = found
            moved.add(cube)
            assert 0.012 <= np.linalg.norm(changed[cube, :2] - POSES[cube, :2]) <= 0.025
    assert moved == {0, 2}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'magic'; valid: teleport, pass_through, no_contact"):
        impossible_end("magic", POSES, POSES, (FAR, FAR), np.random.default_rng(0))


def test_recorded_endings_differ_by_a_cube_alone(spec: RobotSpec) -> None:
    """Same arm, same light: whatever tells the ends apart has to look at cubes."""
    found = record_moments(spec, Cameras(("front",), 96, 96), 4)
    assert set(found.kind) == set(KINDS)
    assert found.actions.shape[1:] == (TICKS, 7)
    assert np.any(found.actions)
    for after, changed in zip(found.after["front"], found.changed["front"], strict=True):
        differs = np.abs(after.astype(int) - changed).max(-1) > 12
        assert 10 < differs.sum() < 0.06 * differs.size


def test_episodes_out_of_range_are_refused(spec: RobotSpec) -> None:
    with pytest.raises(ValueError, match="episodes must be between 1 and"):
        record_moments(spec, Cameras(("front",), 96, 96), 0)


@pytest.mark.slow
def test_the_shipped_model_is_surprised_by_the_impossible(spec: RobotSpec) -> None:
    model = world_models.load(defaults().world_model)
    found = score(model, record_moments(spec, Cameras(("front",), 96, 96), 12)).figures()
    value = {figure.name: float(figure.value) for figure in found}
    assert value["surprise.auroc_teleport"] > 0.9
    assert value["surprise.auroc"] > value["surprise.auroc_latent"]
    assert value["surprise.auroc"] > value["surprise.auroc_persistence"]

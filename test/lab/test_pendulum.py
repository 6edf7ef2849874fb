"""The pendulum lab, in its quick form: a dream that holds, and an agent that learned in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from wm_vla_ros import cli
from wm_vla_ros.lab.dreams import LONGEST, Judged
from wm_vla_ros.lab.episodes import STEPS, Floats, RandomPlayer, draw_windows, play
from wm_vla_ros.lab.pendulum import LabSettings, settings_of, train


class Constant:
    """Always the same torque."""

    def __init__(self, action: float) -> None:
        self.action = action

    def reset(self, count: int) -> None:
        self.count = count

    def act(self, observations: Floats) -> Floats:
        return np.full((self.count, 1), self.action, np.float32)


class TestEpisodes:
    def test_a_seed_is_an_episode(self) -> None:
        first, again = (play(RandomPlayer(1), [3, 4]) for _ in range(2))
        np.testing.assert_array_equal(first.observations, again.observations)
        np.testing.assert_array_equal(first.rewards, again.rewards)
        assert not np.array_equal(first.observations[0], first.observations[1])

    def test_rewards_are_those_of_the_angles(self) -> None:
        """Gymnasium's cost, from the angle and speed before each step and the torque: up to 2 N m."""
        played = play(Constant(-0.5), [5])
        angle, speed = played.angles[0, :-1], played.observations[0, :-1, 2]
        np.testing.assert_allclose(
            -played.rewards[0], angle**2 + 0.1 * speed**2 + 0.001 * 1.0**2, rtol=1e-3, atol=1e-3
        )

    @pytest.mark.parametrize("action", [float("nan"), 1.01])
    def test_an_action_out_of_bounds_is_refused(self, action: float) -> None:
        with pytest.raises(ValueError, match="expected actions within"):
            play(Constant(action), [0])

    def test_windows_are_pieces_of_one_episode(self) -> None:
        played = play(RandomPlayer(0), [0, 1, 2])
        rng = np.random.default_rng(0)
        observations, actions, rewards = draw_windows(played, 50, 7, rng)
        for window in range(50):
            found = [
                (episode, first)
                for episode, first in np.argwhere(played.observations[:, :, 2] == observations[window, 0, 2])
                if first + 7 <= STEPS + 1
                and np.array_equal(played.observations[episode, first : first + 7], observations[window])
            ]
            episode, first = found[0]
            np.testing.assert_array_equal(actions[window], played.actions[episode, first : first + 6])
            np.testing.assert_array_equal(rewards[window], played.rewards[episode, first : first + 6])
        last = draw_windows(played, 5, STEPS + 1, rng)
        assert last[0].shape == (5, STEPS + 1, 3)
        with pytest.raises(ValueError, match=f"expected 2 to {STEPS + 1} observations, got {STEPS + 2}"):
            draw_windows(played, 1, STEPS + 2, rng)


def judged(error: Floats, persistence: Floats) -> Judged:
    nothing = np.zeros((2, LONGEST, 3), np.float32)
    dreamed = nothing.copy()
    dreamed[1, 30:] = 2.0
    return Judged(nothing, dreamed, error, persistence, nothing, 0.0, np.ones(3, np.float32))


class TestJudged:
    def test_a_horizon_ends_where_persistence_is_as_good(self) -> None:
        error, persistence = np.full(LONGEST, 0.1), np.linspace(0.2, 0.0, LONGEST)
        assert judged(error, persistence).horizon == np.argmax(persistence <= 0.1)

    def test_or_where_the_dream_is_lost(self) -> None:
        error = np.linspace(0.0, 0.99, LONGEST)
        assert judged(error, np.full(LONGEST, 2.0)).horizon == 50

    def test_or_nowhere(self) -> None:
        assert judged(np.zeros(LONGEST), np.ones(LONGEST)).horizon == LONGEST

    def test_one_dream_diverges_at_its_own_step(self) -> None:
        both = judged(np.zeros(LONGEST), np.ones(LONGEST))
        assert both.lost.tolist() == [LONGEST, 30]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """What CI runs: the report, and where the picture is."""
    png = tmp_path_factory.mktemp("lab") / "pendulum.png"
    done = CliRunner().invoke(cli.app, ["lab", "pendulum", "--quick", "--json", "--png", str(png)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), png


@pytest.fixture(scope="module")
def figures(run: tuple[dict, Path]) -> dict[str, dict]:
    return {figure["name"].removeprefix("pendulum."): figure for figure in run[0]["figures"]}


# A minute of one core; on a machine with ten others waiting for it, six.
@pytest.mark.slow
@pytest.mark.timeout(900)
class TestQuick:
    """One run for all. Every bound is against another number of the same run, or in units of the variance."""

    def test_reconstructions_beat_the_mean(self, figures: dict[str, dict]) -> None:
        assert figures["reconstruction_error"]["value"] < 0.05

    def test_a_dream_beats_persistence_for_half_a_second(self, figures: dict[str, dict]) -> None:
        assert figures["dream_ratio_10"]["value"] < 0.3
        assert figures["dream_horizon"]["value"] >= 10

    def test_the_agent_beats_chance_beyond_both_intervals(self, figures: dict[str, dict]) -> None:
        """It learned in the dream alone: only a dream that is like the world can have taught it that."""
        agent, chance = figures["return"], figures["return_random"]
        assert agent["low"] > chance["high"]
        assert agent["n"] == chance["n"] == 20

    def test_it_says_what_it_saw(self, run: tuple[dict, Path], figures: dict[str, dict]) -> None:
        assert figures["real_episodes"]["value"] == run[0]["conditions"]["episodes"] <= 20
        assert run[1].read_bytes()[:4] == b"\x89PNG"


def test_the_same_seed_trains_the_same_agent() -> None:
    short = replace(settings_of(0, 20, 100, "gaussian", quick=True), episodes=3, random=2, updates=3)
    first, again, other = (train(replace(short, seed=seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.experience.returns, again.experience.returns)
    weights = [torch.cat([w.flatten() for w in t.dreamer.actor.parameters()]) for t in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_more_random_episodes_than_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="random: expected 1 to 4 of 4 episodes, got 5"):
        LabSettings(episodes=4)

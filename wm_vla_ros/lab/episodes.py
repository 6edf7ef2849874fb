"""Episodes of Gymnasium's Pendulum-v1, and windows of them to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

ENVIRONMENT = "Pendulum-v1"
STEPS = 200
# Most torque of the motor, N m: what an action of 1 is.
TORQUE = 2.0
# What an observation holds: cos and sin of the angle from upright, and its speed in rad/s.
OBSERVATION_NAMES = ("cos", "sin", "speed")

Floats = NDArray[np.float32]


class Player(Protocol):
    """Chooses actions for N pendulums at once."""

    def reset(self, count: int) -> None:
        """N new episodes begin."""

    def act(self, observations: Floats) -> Floats:
        """Actions (N, 1) in [-1, 1] for observations (N, 3)."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """N episodes of T steps. observations (N, T + 1, 3), actions (N, T, 1) in [-1, 1], rewards (N, T)."""

    observations: Floats
    actions: Floats
    rewards: Floats

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def returns(self) -> Floats:
        """(N,) undiscounted."""
        return self.rewards.sum(1)

    @property
    def angles(self) -> Floats:
        """(N, T + 1) rad from upright, in (-pi, pi]."""
        return angle(self.observations)


def angle(observations: Floats) -> Floats:
    """(..., 3) -> (...) rad from upright, in (-pi, pi]."""
    return np.arctan2(observations[..., 1], observations[..., 0])


def join(parts: Sequence[Episodes]) -> Episodes:
    """All episodes of all parts."""
    return Episodes(*(np.concatenate([getattr(part, name) for part in parts]) for name in Episodes.__slots__))


def play(player: Player, seeds: Sequence[int]) -> Episodes:
    """One real episode per seed, side by side. Raises ValueError for an action that is not in [-1, 1]."""
    worlds = [gymnasium.make(ENVIRONMENT) for _ in seeds]
    now = np.stack([world.reset(seed=seed)[0] for world, seed in zip(worlds, seeds, strict=True)])
    observations, actions, rewards = [now], [], []
    player.reset(len(worlds))
    for _ in range(STEPS):
        action = player.act(now)
        if not (np.abs(action) <= 1.0).all():
            raise ValueError(f"expected actions within [-1, 1], got {action.ravel().tolist()}")
        came = [world.step(TORQUE * row) for world, row in zip(worlds, action, strict=True)]
        now = np.stack([observation for observation, *_ in came])
        observations.append(now)
        actions.append(action)
        rewards.append([reward for _, reward, *_ in came])
    for world in worlds:
        world.close()
    return Episodes(
        np.stack(observations, 1).astype(np.float32),
        np.stack(actions, 1).astype(np.float32),
        np.array(rewards, np.float32).T,
    )


class RandomPlayer:
    """Actions uniform in [-1, 1]: what is known before anything is learned."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def reset(self, count: int) -> None:
        pass

    def act(self, observations: Floats) -> Floats:
        return self._rng.uniform(-1.0, 1.0, (len(observations), 1)).astype(np.float32)


def draw_windows(
    episodes: Episodes, batch: int, length: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Observations (B, length, 3); the actions (B, length - 1, 1) and rewards (B, length - 1) between them.

    Raises ValueError when no episode is that long.
    """
    steps = episodes.actions.shape[1]
    if not 2 <= length <= steps + 1:
        raise ValueError(f"length: expected 2 to {steps + 1} observations, got {length}")
    which = rng.integers(len(episodes), size=(batch, 1))
    first = rng.integers(steps + 2 - length, size=(batch, 1))
    seen = first + np.arange(length)
    between = seen[:, :-1]
    return (
        episodes.observations[which, seen],
        episodes.actions[which, between],
        episodes.rewards[which, between],
    )

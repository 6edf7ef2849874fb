"""What an actor and its critic are worth on held-out episodes, beside what needs no imagination to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import mean
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import positions
from wm_vla_ros.judging.encodings import check_layout, encode_rows
from wm_vla_ros.judging.head_judge import compared
from wm_vla_ros.report import Figure
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.actor_critic import ActorCritic
from wm_vla_ros.world_models.protocol import WorldModel

# Ticks that are imagined for a return, and errands that are judged.
TICKS = 40
_ERRANDS = 1500
# Goals lie up to so many frames ahead.
_AHEAD = 60
# Frames encoded at a time: images of a whole data set would not fit into memory.
_BATCH = 2048

# Latents (N, D) and goals (N, D) -> actions (N, A).
Policy = Callable[[FloatArray, FloatArray], FloatArray]
# Positions (N, G) and goals' (N, G) -> rewards (N,).
Reward = Callable[[NDArray, NDArray], NDArray]


@dataclass(frozen=True)
class GoalData:
    """Encoded frames of episodes, and where they lead.

    latents: (F, D). row: (F,) their rows. last: (F,) index of the last frame of each one's episode. episode:
    (F,). done: (F,) whether that episode ends in what its instruction asks.
    """

    latents: FloatArray
    row: NDArray[np.int64]
    last: NDArray[np.int64]
    episode: NDArray[np.int64]
    done: NDArray[np.bool_]

    @classmethod
    def of(cls, model: WorldModel, data: EpisodeArrays, episodes: NDArray[np.int64]) -> GoalData:
        """Raises ValueError when the data set is of another layout than the model."""
        check_layout(model, data)
        row_episode = data.row_episode()
        rows = data.frame_rows[np.isin(row_episode[data.frame_rows], episodes)]
        parts = np.split(rows, range(_BATCH, len(rows), _BATCH))
        of_frame = row_episode[rows]
        return cls(
            np.concatenate([encode_rows(model, data, part) for part in parts]),
            rows,
            np.searchsorted(of_frame, of_frame, side="right") - 1,
            of_frame,
            data.success[data.starts[1:] - 1][of_frame],
        )

    def errands(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices (count,) of frames to start from and of frames to reach.

        Half of the goals are where the episode ends, if it ends in what was asked; the others are frames
        that came some time later, whatever was meant by it.
        """
        first = rng.integers(len(self.latents), size=count)
        goal = rng.integers(first, np.minimum(first + _AHEAD, self.last[first]), endpoint=True)
        asked = self.done[first] & (rng.random(count) < 0.5)
        return first, np.where(asked, self.last[first], goal)


def figures(
    learned: ActorCritic,
    prior: Policy,
    model: WorldModel,
    data: EpisodeArrays,
    goals: GoalData,
    discount: float,
    reward: Reward,
) -> tuple[Figure, ...]:
    """Discounted returns of 40 imagined ticks to goals of held-out episodes, and what the critic ranks.

    actor.return; the same of standing still, of the recorded actions, and of a prior, which imitates the
    demonstrations; actor.gain_NAME: how much more the actor gets than each. critic.imagined_rank: correlation
    of its value's rank with the actor's imagined return; critic.true_rank: with the return of what the
    episode really did up to the goal; distance_*: the same of the plain distance, *_gain: how much more.
    """
    rng = np.random.default_rng(0)
    first, goal = goals.errands(_ERRANDS, rng)
    fits = goals.row[first] + TICKS <= goals.row[goals.last[first]]
    first, goal = first[fits], goal[fits]
    if len(first) == 0:
        raise ValueError(f"no held-out episode has {TICKS} ticks left after a frame")
    start, asked, episode = goals.latents[first], goals.latents[goal], goals.episode[first]
    recorded = data.actions[goals.row[first][:, None] + np.arange(TICKS)]
    weights = discount ** np.arange(TICKS)

    def imagined(act: Callable[[int, FloatArray], FloatArray]) -> NDArray[np.float64]:
        latents, total = start, np.zeros(len(start))
        for tick in range(TICKS):
            latents = model.predict(latents, act(tick, latents))
            total += weights[tick] * reward(model.ground(latents), model.ground(asked))
        return total

    returns = {
        "actor": imagined(lambda tick, latents: learned.act(latents, asked)),
        "still": imagined(lambda tick, latents: np.zeros_like(recorded[:, tick])),
        "recorded": imagined(lambda tick, latents: recorded[:, tick]),
        "prior": imagined(lambda tick, latents: prior(latents, asked)),
    }
    value = learned.value(start, asked)
    near = reward(model.ground(start), model.ground(asked))
    true = _true_returns(data, goals.row[first], goals.row[goal], discount, reward)
    return (
        *(mean(f"{name}.return", each, episode) for name, each in returns.items()),
        *(
            mean(f"actor.gain_{name}", returns["actor"] - each, episode)
            for name, each in returns.items()
            if name != "actor"
        ),
        *compared("critic.", "imagined", "distance_imagined", value, near, returns["actor"], episode),
        *compared("critic.", "true", "distance_true", value, near, true, episode),
    )


def _true_returns(
    data: EpisodeArrays,
    start: NDArray[np.int64],
    goal: NDArray[np.int64],
    discount: float,
    reward: Reward,
) -> NDArray[np.float64]:
    """(N,) discounted rewards of recorded rows from `start` (N,) on, up to `goal` (N,)."""
    where = positions(data)
    total = np.zeros(len(start))
    for tick in range(1, int((goal - start).max(initial=0)) + 1):
        on = start + tick <= goal
        total[on] += discount ** (tick - 1) * reward(where[start[on] + tick], where[goal[on]])
    return total

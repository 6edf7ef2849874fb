"""The pendulum lab: a world model and an agent that is trained in nothing but its dreams.

Real experience is a fixed number of episodes: a few of random actions, then one at a time of the agent as it
is by then, each followed by training (Dreamer's loop). The agent never learns from a real transition; it sees
the real pendulum when it collects, and when it is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import gymnasium
import numpy as np
import torch

from wm_vla_ros.lab.dream import DreamConfig, Dreamer, step
from wm_vla_ros.lab.dreams import judge
from wm_vla_ros.lab.episodes import ENVIRONMENT, Episodes, Floats, RandomPlayer, draw_windows, join, play
from wm_vla_ros.report import Figure, Report, conditions, mean_interval
from wm_vla_ros.world_models.rssm_config import RssmConfig
from wm_vla_ros.world_models.rssm_core import Rssm, State

# Starts that the agent is judged on: the same for every seed of the training, and never trained on.
_JUDGED_SEEDS = range(20)
_TRAINING_SEEDS = 1_000_000

_QUICK_EPISODES, _QUICK_UPDATES = 10, 100
# As small as the pendulum allows: every dimension is paid for 15 times per dream.
_MODEL = RssmConfig(3, 1, deterministic=64, hidden=64, variables=16, classes=8, observation_std=0.05)

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What is trained, and for how long.

    episodes: real ones, the first `random` of them of random actions. updates: training steps per real
    episode once there are `random` of them. batch, length: windows of a step. starts: dreams of a step.

    Raises ValueError unless 1 <= random <= episodes.
    """

    seed: int = 0
    episodes: int = 20
    random: int = 5
    updates: int = 100
    batch: int = 16
    length: int = 24
    starts: int = 128
    model_rate: float = 1e-3
    clip: float = 100.0
    model: RssmConfig = field(default_factory=lambda: _MODEL)
    dream: DreamConfig = field(default_factory=lambda: DreamConfig(hidden=64))

    def __post_init__(self) -> None:
        if not 1 <= self.random <= self.episodes:
            raise ValueError(
                f"random: expected 1 to {self.episodes} of {self.episodes} episodes, got {self.random}"
            )


def settings_of(seed: int, episodes: int, updates: int, latent: str, quick: bool) -> LabSettings:
    """The lab's sizes for either latent. quick: episodes and updates of its own, for about a minute.

    Raises ValueError for an unknown latent, or fewer episodes than are random.
    """
    if quick:
        episodes, updates = _QUICK_EPISODES, _QUICK_UPDATES
    return LabSettings(seed, episodes, updates=updates, model=replace(_MODEL, latent=latent))


class AgentPlayer:
    """The agent in the real world: filters what it sees and acts on the state that it believes."""

    def __init__(self, dreamer: Dreamer, sample: bool) -> None:
        self._dreamer, self._sample = dreamer, sample
        self._state: State | None = None
        self._action: torch.Tensor | None = None

    def reset(self, count: int) -> None:
        self._state = self._action = None

    @torch.no_grad()
    def act(self, observations: Floats) -> Floats:
        model = self._dreamer.model
        if self._state is None or self._action is None:
            deterministic = model.initial(len(observations)).deterministic
        else:
            deterministic = model.advance(self._state, self._action)
        self._state = model.look(deterministic, torch.from_numpy(observations), sample=self._sample)
        self._action = self._dreamer.act(self._state, sample=self._sample)
        return self._action.numpy()


@dataclass(slots=True)
class Trained:
    """What came of the training. experience: every real episode, in the order of collection.

    terms: of the model's last loss, nats per step.
    """

    model: Rssm
    dreamer: Dreamer
    experience: Episodes
    terms: dict[str, float]


def train(settings: LabSettings, progress: Progress = lambda share, note: None) -> Trained:
    """The whole loop. Deterministic on a CPU for the settings."""
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    model = Rssm(settings.model)
    dreamer = Dreamer(model, settings.dream)
    optimiser = torch.optim.Adam(model.parameters(), settings.model_rate, fused=True)
    first = _TRAINING_SEEDS * (settings.seed + 1)
    experience = play(RandomPlayer(settings.seed), range(first, first + settings.random))
    rounds = settings.episodes - settings.random + 1
    for number in range(rounds):
        for update in range(settings.updates):
            windows = draw_windows(experience, settings.batch, settings.length, rng)
            loss, terms, seen = model.loss(*(torch.from_numpy(part) for part in windows))
            step(loss, model, optimiser, settings.clip)
            flat = seen.map(lambda part: part.flatten(0, 1))
            chosen = torch.from_numpy(rng.integers(len(flat.deterministic), size=settings.starts))
            dreamed = dreamer.update(State(*(part[chosen] for part in flat)))
            if update % 20 == 0:
                note = (
                    f"episode {len(experience)}: return {experience.returns[-1]:.0f}, dreamed {dreamed:.0f}"
                )
                progress((number + update / settings.updates) / rounds, note)
        if number + 1 < rounds:
            collected = play(AgentPlayer(dreamer, sample=True), [first + len(experience)])
            experience = join([experience, collected])
    progress(1.0, "")
    return Trained(model, dreamer, experience, {name: float(term.detach()) for name, term in terms.items()})


def run(
    settings: LabSettings, png: Path | None = None, progress: Progress = lambda share, note: None
) -> Report:
    """Train, judge, draw. The figures' names are in docs/reference/commands.md."""
    before = conditions()
    started = time.monotonic()
    trained = train(settings, lambda share, note: progress(0.97 * share, note))
    seconds = time.monotonic() - started
    progress(0.97, "judging")
    agent = play(AgentPlayer(trained.dreamer, sample=False), _JUDGED_SEEDS)
    chance = play(RandomPlayer(settings.seed), _JUDGED_SEEDS)
    judged = judge(trained.model, join([chance, agent]))
    if png is not None:
        from wm_vla_ros.lab.pendulum_plot import plot

        plot(png, trained.experience.returns, settings.random, agent, chance, judged)
    progress(1.0, "")
    return Report(
        "lab pendulum",
        {
            "environment": ENVIRONMENT,
            "gymnasium": gymnasium.__version__,
            "threads": 1,
            **asdict(settings),
            **before,
        },
        (
            mean_interval("pendulum.return", agent.returns.tolist()),
            mean_interval("pendulum.return_random", chance.returns.tolist()),
            *judged.figures("pendulum"),
            *(Figure(f"pendulum.loss.{name}", term, "nats") for name, term in trained.terms.items()),
            Figure("pendulum.real_episodes", len(trained.experience)),
            Figure("pendulum.seconds", seconds, "s"),
        ),
    )

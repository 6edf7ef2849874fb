"""Training of a goal-conditioned actor and its critic in the imagination of a frozen world model."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays, concatenate, load_episodes
from wm_vla_ros.data.sequences import split
from wm_vla_ros.lab.actor_judge import GoalData, figures
from wm_vla_ros.lab.dream import Actor, Critic, DreamConfig, Dreamer, step
from wm_vla_ros.lab.goal_dream import GoalConditionedState, GoalDream, rewards
from wm_vla_ros.report import Figure, Report, as_object, conditions
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.actor_critic import (
    ACTOR,
    ACTOR_CRITIC_FILE,
    BINS,
    CRITIC,
    HIGH,
    LINEAR,
    LOW,
    NORM,
    ActorCritic,
)
from wm_vla_ros.world_models.manifest import check_new, read_manifest, write_with
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

REPORT_FILE = "actor_critic_report.json"
# Share of the expert's actions that lie beyond each end of the actor's range.
_OUTLIERS = 0.005
# Standard deviation of an action entry under which demonstrations count as not using it.
_UNUSED = 1e-3

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ActorCriticTraining:
    """How to train: the result depends on the data, these numbers and one thread alone.

    batch: dreams a step. held_out: share of the episodes that no training sees.
    """

    steps: int = 4000
    seed: int = 0
    threads: int = 1
    batch: int = 64
    held_out: float = 0.1
    dream: DreamConfig = field(default_factory=lambda: DreamConfig(horizon=16, discount=0.97))


def train(
    datasets: Sequence[Path],
    world_model: str,
    out: Path,
    training: ActorCriticTraining,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Train on `datasets`; write the world model with actor and critic, and a report, to the folder `out`.

    Raises FileExistsError when `out` holds a model already, ModelRefused for a world model or a folder name,
    or a model without torch weights, ValueError for data that do not fit.
    """
    check_new(out)
    folder = find(world_model)
    manifest = read_manifest(folder)
    model = world_models.load(folder.absolute(), load_robot(manifest.robot), runtime="torch")
    assert isinstance(model, TorchWorldModel)
    data = concatenate([load_episodes(root, tuple(manifest.cameras)) for root in datasets])
    torch.set_num_threads(training.threads)
    used, held_out = split(data, training.held_out, training.seed)
    progress(0.0, "encoding")
    seen = GoalData.of(model, data, used)
    progress(0.3, "encoding")
    unseen = GoalData.of(model, data, held_out)
    low, high = action_range(data, used)
    dream = GoalDream(model.dynamics, *model.to_metres, low, high)
    dreamer = learn(dream, seen, training, lambda share, note: progress(0.35 + 0.45 * share, note))
    prior = imitate(dream, seen, data, training, lambda share: progress(0.8 + 0.1 * share, "prior"))
    progress(0.9, "judging")
    about = {
        "dataset": ",".join(root.name for root in datasets),
        "command": _command(datasets, folder, training),
    }
    content = save(tensors(dreamer, dream), about)
    manifest = write_with(out, folder, manifest, ACTOR_CRITIC_FILE, content)
    found = figures(
        ActorCritic(manifest, content), prior, model, data, unseen, training.dream.discount, _rewards
    )
    report = Report(
        "train actor-critic",
        {
            **asdict(training),
            **about,
            "episodes": len(used),
            "held_out_episodes": len(held_out),
            **conditions(),
        },
        (Figure("actor_critic.size", len(content), "bytes"), *found),
    )
    (out / REPORT_FILE).write_text(json.dumps(as_object(report), indent=2) + "\n", encoding="utf-8")
    return report


def action_range(data: EpisodeArrays, episodes: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """What an actor may do, (A,) and (A,): as far as the experts went, in what the tasks were done with.

    An entry that successful episodes never use (all entries count where none is) stays at its mean: the
    dream knows little of it, and nobody asked for it. Without recorded success every entry may be used.
    """
    row_episode = data.row_episode()
    own = np.isin(row_episode, episodes)
    shown = own & data.success[data.starts[1:] - 1][row_episode]
    actions = data.expert_actions[own]
    shown_actions = data.expert_actions[shown] if shown.any() else actions
    low, high = np.quantile(actions, [_OUTLIERS, 1.0 - _OUTLIERS], axis=0)
    mean = shown_actions.mean(axis=0)
    unused = shown_actions.std(axis=0) < _UNUSED
    return np.where(unused, mean, low).astype(np.float32), np.where(unused, mean, high).astype(np.float32)


def learn(dream: GoalDream, data: GoalData, training: ActorCriticTraining, progress: Progress) -> Dreamer:
    """An actor and critic that have dreamed from frames of `data` to goals among them."""
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    latents = torch.from_numpy(data.latents)
    dreamer = Dreamer(dream, training.dream)
    for number in range(training.steps):
        first, goal = data.errands(training.batch, rng)
        value = dreamer.update(GoalConditionedState(latents[first], latents[goal]))
        if number % 50 == 0:
            progress(number / training.steps, f"dreaming: return {value:.1f}")
    return dreamer


def imitate(
    dream: GoalDream,
    goals: GoalData,
    data: EpisodeArrays,
    training: ActorCriticTraining,
    progress: Callable[[float], None],
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """The policy prior of the demonstrations: the actor's network, taught what the expert did on the way.

    Goal-conditioned behaviour cloning with hindsight goals (Lynch et al., "Learning Latent Plans from Play",
    CoRL 2019): what learning in the dream has to beat.
    """
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    actor = Actor(dream.config.features, dream.config.action_dim, training.dream.hidden)
    optimiser = torch.optim.Adam(actor.parameters(), training.dream.critic_rate, fused=True)
    latents, actions = torch.from_numpy(goals.latents), torch.from_numpy(data.expert_actions[goals.row])
    for number in range(training.steps):
        first, goal = goals.errands(training.batch, rng)
        done = dream.scaled(actor(GoalConditionedState(latents[first], latents[goal]).features).mean)
        wanted = torch.maximum(torch.minimum(actions[first], dream.high), dream.low)
        size = (dream.high - dream.low).clamp_min(_UNUSED)
        step(F.smooth_l1_loss(done / size, wanted / size), actor, optimiser, training.dream.clip)
        if number % 50 == 0:
            progress(number / training.steps)

    def act(start: FloatArray, goal: FloatArray) -> FloatArray:
        with torch.no_grad():
            return dream.scaled(
                actor(GoalConditionedState(*map(torch.from_numpy, (start, goal))).features).mean
            ).numpy()

    return act


def tensors(dreamer: Dreamer, dream: GoalDream) -> dict[str, Tensor]:
    """By the names that `ActorCritic` reads: the actor's mean, and the slow critic, which is the steadier."""
    out = {LOW: dream.low, HIGH: dream.high, BINS: dreamer.slow_critic.two_hot.bins}
    for name, owner in ((ACTOR, dreamer.actor), (CRITIC, dreamer.slow_critic)):
        assert isinstance(owner, Actor | Critic)
        for place in LINEAR + NORM:
            layer = owner.network[place]
            assert isinstance(layer, nn.Linear | nn.LayerNorm)
            for kind, value in (("weight", layer.weight), ("bias", layer.bias)):
                assert value is not None
                out[f"{name}.{place}.{kind}"] = value.detach().movedim(0, -1)
    mean = dream.config.action_dim
    for kind in ("weight", "bias"):  # the rest is the spread, which only learning needs
        out[f"{ACTOR}.{LINEAR[-1]}.{kind}"] = out[f"{ACTOR}.{LINEAR[-1]}.{kind}"][..., :mean]
    return {name: tensor.contiguous() for name, tensor in out.items()}


def _rewards(positions: NDArray, goal: NDArray) -> NDArray:
    return rewards(torch.from_numpy(positions), torch.from_numpy(goal)).numpy()


def _command(datasets: Sequence[Path], folder: Path, training: ActorCriticTraining) -> str:
    """The command line that repeats this training; folders by their names alone."""
    words = ["wm-vla", "train", "actor-critic", "--world-model", folder.name]
    for root in datasets:
        words += ["--dataset", root.name]
    return shlex.join([*words, "--steps", str(training.steps), "--seed", str(training.seed)])

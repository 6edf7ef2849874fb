"""The video family: see the frames that would follow the instruction, and read the actions off between them.

After UniPi (Du et al., "Learning Universal Policies via Text-Guided Video Generation", NeurIPS 2023), GR-2
(Cheang et al., 2024) and SuSIE (Black et al., ICLR 2024). Two modes, both told the instruction:

- whole sequence: the next `frames` frames, `every` ticks apart, and inverse dynamics between each two of
them;
- a single sub-goal: the frame at the end of the same time alone, and goal-conditioned actions towards it.

There a diffusion model draws pixels. Here frames are predicted as latents, all of a sequence at once and each
as its mean, and a decoder makes images of them: what it cannot draw is not in the latent, so decoding is also
what keeps the latent from collapsing. Beside that the family is a latent world model as the others are: an
action-conditioned rollout serves the planner, and a prediction's actions are one of its candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models import latent_dynamics
from wm_vla_ros.world_models.family import CONSTANT, MIN_SPREAD, Graph, LatentWorldModel, Terms, Window
from wm_vla_ros.world_models.frame_decoder import DECODER_FILE
from wm_vla_ros.world_models.latent_dynamics import sphere
from wm_vla_ros.world_models.modules import ModelConfig
from wm_vla_ros.world_models.small_images import AT_ONCE, small_images
from wm_vla_ros.world_models.video_decoder import Decoder, drawn_size
from wm_vla_ros.world_models.video_files import (
    GOAL_ACTIONS_FILE,
    INVERSE_FILE,
    SEQUENCE_FILE,
    SUBGOAL_FILE,
)

if TYPE_CHECKING:
    from wm_vla_ros.data.lerobot_reader import EpisodeArrays


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """frames of a sequence, `every` so many ticks; their product is how far both modes look ahead.

    pixels: weight of decoding; drawn: images that a step decodes.
    predicted, actions: weights of predicted latents, and of actions in standard deviations. grounded: whether
    metres shape the latent too.
    """

    frames: int = 4
    every: int = 10
    task: int = 32
    pixels: float = 0.5
    drawn: int = 32
    predicted: float = 1.0
    actions: float = 0.5
    grounded: bool = True

    @property
    def ahead(self) -> tuple[int, ...]:
        """Ticks at which a sequence has its frames."""
        return tuple(self.every * (number + 1) for number in range(self.frames))


class Foresight(nn.Module):
    """(latents (B, D), tasks (B,) int64) -> the latents (B, frames, D) of frames to come, all at once."""

    def __init__(self, config: ModelConfig, frames: int, task: int) -> None:
        super().__init__()
        self.frames = frames
        self.task = nn.Embedding(max(1, len(config.tasks)), task)
        self.mlp = _mlp(config.latent_dim + task, config.hidden, frames * config.latent_dim)

    def forward(self, latents: Tensor, tasks: Tensor) -> Tensor:
        change = self.mlp(torch.cat([latents, self.task(tasks)], 1)).unflatten(1, (self.frames, -1))
        return sphere(latents[:, None] + change)


class Between(nn.Module):
    """(latents (B, D), later ones (B, D)) -> the actions (B, ticks, A) that lead from one to the other.

    An action that never varied in the data stays at its mean.
    """

    def __init__(self, config: ModelConfig, ticks: int) -> None:
        super().__init__()
        self.ticks = ticks
        self.mlp = _mlp(2 * config.latent_dim, config.hidden, ticks * config.action_dim)
        self.register_buffer("mean", torch.zeros(config.action_dim))
        self.register_buffer("deviation", torch.zeros(config.action_dim))

    def forward(self, latents: Tensor, later: Tensor) -> Tensor:
        return self.scaled(latents, later) * self.deviation + self.mean

    def scaled(self, latents: Tensor, later: Tensor) -> Tensor:
        """The same in standard deviations."""
        return self.mlp(torch.cat([latents, later - latents], 1)).unflatten(1, (self.ticks, -1))

    def loss(self, latents: Tensor, later: Tensor, actions: Tensor) -> Tensor:
        """Huber's, over actions (B, ticks, A) in standard deviations; nothing of what never varied."""
        varies = self.deviation > 0
        wanted = (actions - self.mean)[..., varies] / self.deviation[varies]
        return F.smooth_l1_loss(self.scaled(latents, later)[..., varies], wanted)


class Video(LatentWorldModel):
    """Rollouts as latent_dynamics has them, and what is to be seen next under an instruction."""

    family = "video"
    needs = ("cameras",)
    norm = staticmethod(sphere)
    dynamics_type = latent_dynamics.SphereDynamics

    def __init__(self, config: ModelConfig, options: VideoOptions | None = None) -> None:
        super().__init__(config)
        self.own = own = options or VideoOptions()
        self.decoder = Decoder(config)
        self.sequence = Foresight(config, own.frames, own.task)
        self.subgoal = Foresight(config, 1, own.task)
        self.inverse = Between(config, own.every)
        self.goal_actions = Between(config, own.frames * own.every)
        self._frames: NDArray[np.uint8] | None = None

    def options(self) -> dict[str, Any]:
        return asdict(self.own)

    def metadata(self) -> dict[str, str]:
        """The tasks by their index: without them nobody can ask for a video."""
        return {"tasks": json.dumps(self.config.tasks)}

    def ahead(self) -> tuple[int, ...]:
        return self.own.ahead

    def readable(self, latents: Tensor) -> Tensor:
        return latents if self.own.grounded else latents.detach()

    def graphs(self) -> dict[str, Graph]:
        latents, batch = torch.zeros(2, self.config.latent_dim), torch.export.Dim("batch")
        one, task = latents[:1].clone(), torch.zeros(1, dtype=torch.int64)
        pair = (latents, latents.clone())
        return {
            DECODER_FILE: Graph(self.decoder, (latents,), ("latent",), ({0: batch},)),
            SEQUENCE_FILE: Graph(self.sequence, (one, task), ("latent", "task")),
            SUBGOAL_FILE: Graph(self.subgoal, (one, task), ("latent", "task")),
            INVERSE_FILE: Graph(self.inverse, pair, ("latent", "later"), ({0: batch}, {0: batch})),
            GOAL_ACTIONS_FILE: Graph(self.goal_actions, (one, one.clone()), ("latent", "later")),
        }

    def normalise(
        self,
        proprio: NDArray[np.float32],
        actions: NDArray[np.float32],
        positions: NDArray[np.float32],
        constant: float = CONSTANT,
        least: float | NDArray[np.float64] = MIN_SPREAD,
    ) -> None:
        super().normalise(proprio, actions, positions, constant, least)
        scale = self.dynamics.action_scale
        for head in (self.inverse, self.goal_actions):
            head.mean.copy_(self.dynamics.action_mean)
            head.deviation.copy_(torch.where(scale > 0, 1.0 / torch.where(scale > 0, scale, 1.0), 0.0))

    def row_targets(self, data: EpisodeArrays) -> dict[str, NDArray]:
        """Task, action and frame of every row, and whether its task is ever done in the data.

        The frames themselves, those of the first camera made small, stay here: a copy of each per row would
        not fit in memory. Play is nobody's example.
        """
        camera = self.config.cameras[0]
        self._frames = small_images(data.images[camera[0]], drawn_size(*camera[1:]))
        sample = self._frames[:: max(1, len(self._frames) // AT_ONCE)].astype(np.float32) / 255.0
        self.decoder.mean.copy_(torch.from_numpy(sample.mean(0)))
        self.decoder.variance.copy_(torch.tensor(max(float((sample - sample.mean(0)).var()), 1e-6)))
        task = data.episode_tasks[data.row_episode()]
        return {
            "task": task,
            "demonstration": np.isin(task, np.unique(task[data.success])),
            "action": data.actions,
            "frame": data.row_frame,
            "row": np.arange(len(data.actions)),
        }

    def window_terms(self, latent: Tensor, predictions: Tensor, window: Window) -> Terms:
        """Decoded frames in every stage; videos and actions where the window shows all of their frames."""
        if window.later is None or window.later_ticks is None or "frame" not in window.known:
            return {}
        terms = {"pixels": self.own.pixels * self._pixels(latent, predictions, window)}
        ticks = window.later_ticks[0]
        places = [torch.nonzero(ticks == wanted).flatten() for wanted in self.own.ahead]
        if not bool((window.later_ticks == ticks).all()) or any(len(place) == 0 for place in places):
            return terms
        later = window.later[:, torch.cat([place[:1] for place in places])]
        actions, own = window.known["action"], self.own
        steps = torch.cat([latent[:, None], later], 1)
        between = actions[:, : own.ahead[-1]].unflatten(1, (own.frames, own.every))
        terms["inverse"] = own.actions * self.inverse.loss(
            steps[:, :-1].flatten(0, 1), steps[:, 1:].flatten(0, 1), between.flatten(0, 1)
        )
        terms["goal_actions"] = own.actions * self.goal_actions.loss(
            latent, later[:, -1], actions[:, : own.ahead[-1]]
        )
        shown = window.known["demonstration"][:, 0]
        if bool(shown.any()):
            start, tasks, wanted = latent[shown], window.known["task"][shown, 0], later[shown]
            terms["sequence"] = own.predicted * F.mse_loss(self.sequence(start, tasks), wanted)
            terms["subgoal"] = own.predicted * F.mse_loss(self.subgoal(start, tasks), wanted[:, -1:])
        return terms

    @torch.no_grad()
    def held_out(
        self, latents: Tensor, known: Mapping[str, Tensor], episode: NDArray[np.int64]
    ) -> dict[str, float]:
        """Squared errors over rivals' on unseen frames, 1 where nothing was learned.

        inverse.ratio_mean, inverse.ratio_previous: over the data's mean action, and over repeating the action
        of the frame before. sequence.ratio_persistence, subgoal.ratio_persistence: predicted latents, over
        the present one. decoder.ratio_mean: pixels, over the mean image.
        """
        gap = self.own.every
        rows, shown = known["row"], known["demonstration"].numpy()
        stride = int((rows[1:] - rows[:-1]).min())
        step, last = gap // stride, self.own.frames * gap // stride
        count = len(rows) - last
        first = np.arange(1, max(1, count))
        whole = (episode[first - 1] == episode[first]) & (episode[first] == episode[first + last])
        first = first[whole]
        if len(first) == 0:
            return {}
        guess = self.inverse(latents[first], latents[first + step])[:, ::stride]
        acted = torch.stack([known["action"][first + number] for number in range(step)], 1)
        error = (guess - acted).square().sum()
        before = known["action"][first - 1][:, None]
        out = {
            "inverse.ratio_mean": float(error / (acted - self.inverse.mean).square().sum()),
            "inverse.ratio_previous": float(error / (acted - before).square().sum()),
        }
        demonstrated = first[shown[first]]
        if len(demonstrated):
            start, tasks = latents[demonstrated], known["task"][demonstrated]
            places = np.arange(1, self.own.frames + 1) * step
            later = latents[demonstrated[:, None] + places]
            still = (later - start[:, None]).square().sum((1, 2))
            error = (self.sequence(start, tasks) - later).square().sum((1, 2))
            out["sequence.ratio_persistence"] = float(error.sum() / still.sum())
            end, still = later[:, -1:], (later[:, -1] - start).square().sum()
            out["subgoal.ratio_persistence"] = float(
                (self.subgoal(start, tasks) - end).square().sum() / still
            )
        picked = first[:: max(1, len(first) // 500)]
        frames = self._images(known["frame"][picked])
        rival = (frames.float() / 255.0 - self.decoder.mean).square().mean() / self.decoder.variance
        out["decoder.ratio_mean"] = float(self.decoder.error(latents[picked], frames) / rival)
        return out

    def _pixels(self, latent: Tensor, predictions: Tensor, window: Window) -> Tensor:
        """Of some windows' first frames, and of as many later ones from the latents imagined for them."""
        assert window.later_ticks is not None
        half = min(len(latent), max(1, self.own.drawn // 2))
        rows = torch.randperm(len(latent), device=latent.device)[:half]
        column = torch.randint(window.later_ticks.shape[1], (half,), device=latent.device)
        ticks = window.later_ticks[rows, column]
        frame = window.known["frame"]
        frames = torch.cat([frame[rows, 0], frame[rows, ticks]])
        latents = torch.cat([latent[rows], predictions[rows, ticks - 1]])
        return self.decoder.loss(latents, self._images(frames).to(latent.device))

    def _images(self, frames: Tensor) -> Tensor:
        assert self._frames is not None
        return torch.from_numpy(self._frames[frames.cpu().numpy()])


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last
    )

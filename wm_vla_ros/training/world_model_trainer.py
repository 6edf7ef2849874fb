"""Training of the latent_dynamics world model on one data set of arrays.

Three stages, because frames cost a hundred times what a tick of dynamics does:
1. `encoder`: frames alone, grounded in metres, until positions can be read from a latent.
2. `joint`: everything together over windows; the first frame of a window with gradient, later ones through
   the target encoder. Here the latent becomes predictable.
3. `dynamics`: the encoder rests; all frames are encoded once, and dynamics and grounding train on these
   latents over longer windows with a target at every frame.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.training.sequences import (
    columns,
    frame_stride,
    frames,
    grounding_names,
    positions,
    window_starts,
)
from wm_vla_ros.training.world_model_loss import LossConfig, Losses, TargetEncoder, Window, augment
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.latent_dynamics import LatentDynamics, LatentDynamicsConfig

Progress = Callable[[float, str], None]
Report = Callable[[float, float], None]
Terms = tuple[torch.Tensor, dict[str, float]]
ROTATION = EE_ACTION_NAMES[3:6]


@dataclass(frozen=True, slots=True)
class Stage:
    """share: of the whole budget. batch: frames or windows a step. ticks: length of a window."""

    share: float
    batch: int
    learning_rate: float
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train. targets: later frames encoded per window in the joint stage.

    contact: share of windows drawn from those in which a cube moves. hide_rotation: share of windows whose
    rotation actions are set to zero: recordings hold the rotation that the arm could not help, planners
    propose none. target_rate: of the target encoder, per step.
    """

    encoder: Stage = Stage(0.42, 64, 2e-3)
    joint: Stage = Stage(0.38, 64, 1e-3, 30)
    dynamics: Stage = Stage(0.2, 256, 1e-3, 40)
    targets: int = 2
    contact: float = 0.5
    hide_rotation: float = 0.5
    target_rate: float = 0.02
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: either a number of steps, which is reproducible, or minutes of wall time.

    Raises ValueError unless exactly one is given and positive.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ValueError(f"give a positive steps or minutes, got {self.steps} and {self.minutes}")

    def part(self, share: float) -> Budget:
        """This share of the budget, at least one step."""
        if self.steps is not None:
            return Budget(steps=max(1, round(self.steps * share)))
        assert self.minutes is not None
        return Budget(minutes=self.minutes * share)

    def progress(self, step: int, started: float) -> float:
        """Share that is used up, 1 when done. started: time.monotonic() at the first step."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None
        return (time.monotonic() - started) / (60.0 * self.minutes)


class Trainer:
    """One model over the training episodes of one data set. Deterministic on a CPU for a seed and steps."""

    def __init__(
        self,
        data: EpisodeArrays,
        episodes: NDArray[np.int64],
        cameras: tuple[str, ...],
        config: TrainConfig,
        seed: int,
        device: str = "cpu",
    ) -> None:
        """Raises ValueError when the data set has no fingertip, no objects or no window long enough."""
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.data, self.config, self.cameras = data, config, cameras
        self.device = torch.device(device)
        self.names = grounding_names(data)
        self.positions = positions(data)
        self.stride = frame_stride(data)
        self._rotation = [data.action_names.index(name) for name in ROTATION if name in data.action_names]
        own = np.isin(data.row_episode(), episodes)
        self._frame_rows = data.frame_rows[own[data.frame_rows]]
        lengths = {config.joint.ticks, config.dynamics.ticks}
        self.starts = {ticks: window_starts(data, episodes, ticks) for ticks in lengths}
        self._contact = {ticks: self._contact_starts(ticks) for ticks in lengths}
        shapes = tuple((name, *data.images[name][np.array([0])].shape[1:3]) for name in cameras)
        self.model = LatentDynamics(
            LatentDynamicsConfig(shapes, data.states.shape[1], data.actions.shape[1], len(self.names))
        )
        self.model.normalise(data.states[own], data.actions[own], self.positions[own])
        self.model.to(self.device)
        self.losses = Losses(self.names, config.loss, self.device)
        self.history: list[dict[str, float | str]] = []

    def run(self, budget: Budget, progress: Progress = lambda share, text: None) -> None:
        """All stages. progress: called with the share of the whole that is done, and a word on it."""
        done = 0.0
        for name, stage, train in (
            ("encoder", self.config.encoder, self._encoder_stage),
            ("joint", self.config.joint, self._joint_stage),
            ("dynamics", self.config.dynamics, self._dynamics_stage),
        ):
            train(
                budget.part(stage.share),
                lambda share, loss, name=name, done=done, stage=stage: progress(
                    done + share * stage.share, f"{name}: loss {loss:.3f}"
                ),
            )
            done += stage.share

    def steps(self) -> dict[str, int]:
        """How many optimiser steps each stage has taken."""
        return dict(Counter(str(entry["stage"]) for entry in self.history))

    def final_loss(self) -> float:
        """Mean loss of the last 50 steps of the last stage."""
        last = [float(entry["loss"]) for entry in self.history if entry["stage"] == "dynamics"]
        return float(np.mean(last[-50:]))

    def encode(self, rows: NDArray[np.int64], batch: int = 256) -> torch.Tensor:
        """Latents (len(rows), D) of rows that have an image, in full precision."""
        out = []
        with torch.no_grad():
            for part in np.array_split(rows, max(1, len(rows) // batch)):
                out.append(self.model.encoder(self._images(part), self._tensor(self.data.states[part])))
        return torch.cat(out)

    def _encoder_stage(self, budget: Budget, report: Report) -> None:
        stage, model = self.config.encoder, self.model
        weights = [*model.encoder.parameters(), *model.grounding.parameters()]

        def loss() -> Terms:
            rows = self.rng.choice(self._frame_rows, stage.batch)
            grounded = model.grounding(self._latent(model.encoder, rows, changed=True))
            value = self.losses.encoded(grounded, self._tensor(self.positions[rows]))
            return value, {"encoded": float(value.detach())}

        self._optimise("encoder", weights, stage.learning_rate, budget, loss, report)

    def _joint_stage(self, budget: Budget, report: Report) -> None:
        config, stage, model = self.config, self.config.joint, self.model
        target = TargetEncoder(model.encoder, config.target_rate)
        later = np.arange(self.stride, stage.ticks + 1, self.stride)

        def loss() -> Terms:
            target.follow(model.encoder)
            rows, window = self._draw(stage.ticks, stage.batch)
            offsets = self.rng.choice(later, (stage.batch, config.targets))
            then = (rows[:, None] + offsets).ravel()
            latent = self._latent(model.encoder, rows, changed=True)
            with torch.no_grad():
                targets = self._latent(target.encoder, then).view(stage.batch, config.targets, -1)
            return self.losses.total(model, latent, window, targets, self._tensor(offsets))

        self._optimise("joint", list(model.parameters()), stage.learning_rate, budget, loss, report)

    def _dynamics_stage(self, budget: Budget, report: Report) -> None:
        stage, model = self.config.dynamics, self.model
        latents = self.encode(self._frame_rows)
        index = np.full(len(self.data.actions), -1)
        index[self._frame_rows] = np.arange(len(self._frame_rows))
        later = np.arange(self.stride, stage.ticks + 1, self.stride)
        ticks = self._tensor(later).expand(stage.batch, -1)

        def loss() -> Terms:
            rows, window = self._draw(stage.ticks, stage.batch)
            targets = latents[self._tensor(index[rows[:, None] + later])]
            return self.losses.total(model, latents[self._tensor(index[rows])], window, targets, ticks)

        weights = [*model.dynamics.parameters(), *model.grounding.parameters()]
        self._optimise("dynamics", weights, stage.learning_rate, budget, loss, report)

    def _optimise(
        self,
        stage: str,
        weights: list[torch.nn.Parameter],
        rate: float,
        budget: Budget,
        loss: Callable[[], Terms],
        report: Report,
    ) -> None:
        optimiser = torch.optim.AdamW(weights, rate, weight_decay=1e-4)
        started, step = time.monotonic(), 0
        while (share := budget.progress(step, started)) < 1.0:
            # Warm up over 2 %, then cosine to a hundredth.
            scale = min(1.0, share / 0.02 + 0.05) * (0.505 + 0.495 * np.cos(np.pi * share))
            for group in optimiser.param_groups:
                group["lr"] = rate * scale
            value, terms = loss()
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            self.history.append({"stage": stage, **terms})
            step += 1
            report(min(share, 1.0), next(iter(terms.values())))

    def _draw(self, ticks: int, count: int) -> tuple[NDArray[np.int64], Window]:
        """First rows (count,) of random windows, and what happens in them."""
        starts, contact = self.starts[ticks], self._contact[ticks]
        rows = self.rng.choice(starts, count)
        if len(contact):
            share = round(count * self.config.contact)
            rows[:share] = self.rng.choice(contact, share)
        span = rows[:, None] + np.arange(ticks + 1)
        actions = self.data.actions[span[:, :-1]]
        hidden = np.flatnonzero(self.rng.random(count) < self.config.hide_rotation)
        actions[np.ix_(hidden, np.arange(ticks), self._rotation)] = 0.0
        return rows, Window(self._tensor(actions), self._tensor(self.positions[span]))

    def _latent(
        self, encoder: torch.nn.Module, rows: NDArray[np.int64], changed: bool = False
    ) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            seen = encoder.see(self._images(rows, changed))
        return encoder.fuse(seen.float(), self._tensor(self.data.states[rows]))

    def _images(self, rows: NDArray[np.int64], changed: bool = False) -> list[torch.Tensor]:
        images = [frames(self.data, camera, rows) for camera in self.cameras]
        return [self._tensor(augment(image, self.rng) if changed else image) for image in images]

    def _tensor(self, array: NDArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _contact_starts(self, ticks: int) -> NDArray[np.int64]:
        starts = self.starts[ticks]
        moved = np.zeros(len(starts), bool)
        for cube in columns(self.names, "_cube").values():
            motion = self.positions[starts + ticks][:, cube] - self.positions[starts][:, cube]
            moved |= np.linalg.norm(motion, axis=1) > self.config.loss.moved
        return starts[moved]

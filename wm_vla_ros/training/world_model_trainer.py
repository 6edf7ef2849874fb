"""Training of a world model of any family on one data set of arrays.

Three stages, because frames cost a hundred times what a tick of dynamics does:
1. `encoder`: frames alone, grounded in metres, until positions can be read from a latent.
2. `joint`: everything together over windows; the first frame of a window with gradient, later ones through
   the target encoder. Here the latent becomes predictable.
3. `dynamics`: the encoder rests; all frames are encoded once, and dynamics and grounding train on these
   latents over longer windows with a target at every frame.

A training can be left after any step and taken up again: `Trainer.run` with a `RunFolder`, and
`Trainer.restore`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import TIP, check_needs, columns, grounding_names, in_metres
from wm_vla_ros.training.checkpoints import Checkpoint, named, optimiser_tensors, parts, restore_optimiser
from wm_vla_ros.training.devices import Devices
from wm_vla_ros.training.frame_latents import FrameLatents
from wm_vla_ros.training.imagined import Imagining
from wm_vla_ros.training.run_folder import Entry, RunFolder
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.window_sampler import WindowSampler
from wm_vla_ros.training.world_model_loss import Losses, TargetEncoder
from wm_vla_ros.world_models.family import CONSTANT, MIN_SPREAD, LatentWorldModel, Window
from wm_vla_ros.world_models.latent_dynamics import LatentDynamics
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.modules import ModelConfig

Progress = Callable[[float, str], None]
Report = Callable[[float, float], None]
Terms = tuple[torch.Tensor, dict[str, float]]
# Deviation under which an entry in units that nobody named counts as constant.
_STILL = 1e-6


class Diverged(ValueError):
    """A loss or a gradient that is no finite number: nothing that comes after it would be worth keeping."""


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
        family: Callable[[ModelConfig], LatentWorldModel] = LatentDynamics,
    ) -> None:
        """Raises ValueError when the data set lacks what the family needs, or has no window long enough."""
        check_needs(family, data, cameras)
        torch.manual_seed(seed)
        self.data, self.config, self.cameras = data, config, cameras
        self.devices = Devices(device, config.precision)
        self.device = self.devices.device
        self.names = grounding_names(data)
        self.windows = WindowSampler(data, episodes, config, self.devices)
        self._frames = FrameLatents(data, cameras, self.devices)
        positions, stride = self.windows.positions, self.windows.stride
        own = np.isin(data.row_episode(), episodes)
        self._frame_rows = data.frame_rows[own[data.frame_rows]]
        shapes = tuple((name, *data.images[name][np.array([0])].shape[1:3]) for name in cameras)
        self.model = family(
            ModelConfig(
                shapes,
                data.states.shape[1],
                data.actions.shape[1],
                len(self.names),
                tasks=data.tasks,
                tip=tuple(columns(self.names, TIP).get(TIP, ())),
                objects=tuple(tuple(each) for each in columns(self.names, "_cube").values()),
            )
        )
        longest = config.dynamics.ticks
        if bad := [ticks for ticks in self.model.ahead() if ticks % stride or ticks > longest]:
            raise ValueError(
                f"family {self.model.family} looks {bad} ticks ahead: images come every {stride} ticks, "
                f"and the last stage's windows are {longest} long"
            )
        # Drawn from after the weights, so that every process has the same of those.
        self.rng = self.devices.generator(seed)
        metres = in_metres(data)
        deviation = np.where(metres, np.nan, positions[own].std(0, dtype=np.float64))
        deviation[deviation < _STILL] = 0.0
        self.model.normalise(
            data.states[own],
            data.actions[own],
            positions[own],
            CONSTANT if metres.all() else _STILL,
            np.where(metres, MIN_SPREAD, 0.0),
        )
        self.model.to(self.device)
        if self.model.encoder.frozen:
            self._frames.look_once(self.model.encoder, self._frame_rows, self.rng)
        self.known = self.model.row_targets(data)
        self.losses = Losses(self.names, config.loss, self.device, deviation)
        self.history: list[Entry] = []
        self.seconds = 0.0
        self._stage, self._share = 0, 0.0
        self._slow: dict[str, torch.nn.Module] = {}
        self._pending: Checkpoint | None = None
        self._folder: RunFolder | None = None

    def run(
        self,
        budget: Budget,
        progress: Progress = lambda share, text: None,
        folder: RunFolder | None = None,
    ) -> None:
        """All stages, or what is left of them after `restore`.

        progress: called with the share of the whole that is done, and a word on it. folder: gets the metrics
        of every step and, every so many, a checkpoint. Raises Diverged where a loss or a gradient
        is no finite number, naming stage and step.
        """
        done, self._folder = 0.0, folder
        self._started = time.monotonic() - self.seconds
        for number, (name, stage, train) in enumerate(
            (
                ("encoder", self.config.encoder, self._encoder_stage),
                ("joint", self.config.joint, self._joint_stage),
                ("dynamics", self.config.dynamics, self._dynamics_stage),
            )
        ):
            if number >= self._stage and stage.share:
                self._stage, self._slow = number, {}
                train(
                    budget.part(stage.share),
                    lambda share, loss, name=name, done=done, stage=stage: progress(
                        done + share * stage.share, f"{name}: loss {loss:.3f}"
                    ),
                )
            done += stage.share
        self._stage, self._slow = number + 1, {}
        self._keep(None, 0, 0.0)
        self.seconds = time.monotonic() - self._started

    def restore(self, checkpoint: Checkpoint, history: list[Entry]) -> None:
        """Go on from a checkpoint of the same training. history: of the steps before it.

        Raises ModelRefused when it does not fit.
        """
        try:
            self.model.load_state_dict(parts(checkpoint.tensors, "model"))
            self._stage, self.seconds = int(checkpoint.state["stage"]), float(checkpoint.state["seconds"])
        except (RuntimeError, KeyError) as error:  # torch names every missing, unknown and misshapen tensor
            raise ModelRefused(f"checkpoint: {' '.join(str(error).split())}") from error
        if checkpoint.step != len(history):
            raise ModelRefused(
                f"checkpoint: expected metrics of {checkpoint.step} steps, found {len(history)}"
            )
        self.history, self._pending = list(history), checkpoint

    def steps(self) -> dict[str, int]:
        """How many optimiser steps each stage has taken."""
        return dict(Counter(str(entry["stage"]) for entry in self.history))

    def final_loss(self) -> float:
        """Mean loss of the last 50 steps of the last stage."""
        last = [float(entry["loss"]) for entry in self.history if entry["stage"] == "dynamics"]
        return float(np.mean(last[-50:]))

    def encode(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Latents (len(rows), D) of rows that have an image, in full precision."""
        return self._frames.encode(self.model.encoder, rows)

    def held_out(self, episodes: NDArray[np.int64]) -> dict[str, float]:
        """What the family's own heads are worth on these episodes, by name."""
        rows = self.data.frame_rows
        episode = self.data.row_episode()[rows]
        mine = np.isin(episode, episodes)
        rows, episode = rows[mine], episode[mine]
        known = {name: torch.from_numpy(values[rows]) for name, values in self.known.items()}
        return self.model.eval().held_out(self.encode(rows).cpu(), known, episode) if known else {}

    def _encoder_stage(self, budget: Budget, report: Report) -> None:
        stage, model = self.config.encoder, self.model
        tensor = self.devices.tensor
        weights = [*model.encoder.parameters(), *model.grounding.parameters()]

        def loss() -> Terms:
            rows = self.rng.choice(self._frame_rows, stage.batch)
            latent = self._frames.latents(model.encoder, rows, self.rng)
            grounded = model.grounding(model.readable(latent))
            terms = {"encoded": self.losses.encoded(grounded, tensor(self.windows.positions[rows]))}
            known = {name: tensor(values[rows]) for name, values in self.known.items()}
            terms |= model.frame_terms(latent, known)
            return sum(terms.values()), {name: float(term.detach()) for name, term in terms.items()}

        self._optimise("encoder", weights, stage.learning_rate, budget, loss, report)

    def _joint_stage(self, budget: Budget, report: Report) -> None:
        config, stage, model = self.config, self.config.joint, self.model
        tensor = self.devices.tensor
        target = TargetEncoder(model.encoder, config.target_rate)
        self._slow = {"target": target.encoder}

        def loss() -> Terms:
            target.follow(model.encoder)
            later, rows, window = self._draw(stage, stage.batch)
            offsets = self.rng.choice(later, (stage.batch, min(config.targets, len(later))))
            then = (rows[:, None] + offsets).ravel()
            latent = self._frames.latents(model.encoder, rows, self.rng)
            with torch.no_grad():
                targets = self._frames.latents(target.encoder, then).view(*offsets.shape, -1)
            return self._total(rows, latent, window, targets, tensor(offsets))

        self._optimise("joint", list(model.parameters()), stage.learning_rate, budget, loss, report)

    def _dynamics_stage(self, budget: Budget, report: Report) -> None:
        stage, model = self.config.dynamics, self.model
        tensor = self.devices.tensor
        latents = self.encode(self._frame_rows)
        index = np.full(len(self.data.actions), -1)
        index[self._frame_rows] = np.arange(len(self._frame_rows))
        imagined = round(self.config.imagined * stage.batch)
        recorded = stage.batch - imagined
        imagining = Imagining(model, self.data.actions, self.config.target_rate) if imagined else None
        self._slow = imagining.parts if imagining else {}
        if self._pending is None:  # else it looks as it did when it was left
            model.dynamics.look(*model.grounding.folded())

        def loss() -> Terms:
            later, rows, window = self._draw(stage, recorded)
            targets = latents[tensor(index[rows[:, None] + later])]
            ticks = tensor(later).expand(recorded, -1)
            value, terms = self._total(rows, latents[tensor(index[rows])], window, targets, ticks)
            if imagining is None:
                return value, terms
            imagining.follow(model)
            start = latents[tensor(index[self.rng.choice(rows, imagined)])]
            actions = window.actions[tensor(self.rng.choice(recorded, imagined))]
            dreamt = self.losses.imagined(model, imagining.windows(start, actions))
            share = imagined / stage.batch
            return (1.0 - share) * value + share * dreamt, terms | {"imagined": float(dreamt.detach())}

        weights = [each for name, each in model.named_parameters() if not name.startswith("encoder.")]
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
        step, before = self._take_up(optimiser)
        started = time.monotonic() - before
        while (share := self.devices.agreed(budget.progress(step, started))) < 1.0:
            self._share = share
            # Warm up over 2 %, then cosine to a hundredth.
            scale = min(1.0, share / 0.02 + 0.05) * (0.505 + 0.495 * np.cos(np.pi * share))
            for group in optimiser.param_groups:
                group["lr"] = rate * scale
            value, terms = loss()
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            self.devices.average(weights)
            norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
            if not np.isfinite([float(norm), *terms.values()]).all():
                raise Diverged(f"{stage}, step {step + 1}: gradient {float(norm)}, losses {terms}")
            optimiser.step()
            self.history.append({"stage": stage, **terms})
            step += 1
            if self._folder is not None:
                self._folder.record(len(self.history), self.history[-1])
                if len(self.history) % self._folder.every == 0:
                    self._keep(optimiser, step, time.monotonic() - started)
            report(min(share, 1.0), next(iter(terms.values())))

    def _keep(self, optimiser: torch.optim.Optimizer | None, step: int, seconds: float) -> None:
        """A checkpoint after `step` steps and so many seconds of the stage; all processes take part."""
        if self._folder is None:
            return
        tensors = named(dict(self.model.state_dict()), "model")
        tensors |= named(self.devices.random_state(self.rng), "random")
        for name, module in self._slow.items():
            tensors |= named(dict(module.state_dict()), f"slow.{name}")
        if optimiser is not None:
            tensors |= named(optimiser_tensors(optimiser), "optimiser")
        if self.windows.replay is not None:
            own = {name: self.devices.stacked(value) for name, value in self.windows.replay.tensors().items()}
            tensors |= named(own, "replay")
        whole = time.monotonic() - self._started
        state = {"stage": self._stage, "step": step, "stage_seconds": seconds, "seconds": whole}
        self._folder.keep(len(self.history), tensors, state)

    def _take_up(self, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
        """Steps and seconds of this stage that are done already; everything but the model as it was then."""
        if self._pending is None:
            return 0, 0.0
        checkpoint, self._pending = self._pending, None
        tensors, state = checkpoint.tensors, checkpoint.state
        try:
            self.devices.restore_random(self.rng, parts(tensors, "random"))
            restore_optimiser(optimiser, parts(tensors, "optimiser"))
            for name, module in self._slow.items():
                module.load_state_dict(parts(tensors, f"slow.{name}"))
            if self.windows.replay is not None:
                memory = parts(tensors, "replay")
                self.windows.replay.restore(
                    {name: value[self.devices.rank] for name, value in memory.items()}
                )
            return int(state["step"]), float(state["stage_seconds"])
        except (RuntimeError, KeyError, ValueError) as error:
            if isinstance(error, ModelRefused):
                raise
            raise ModelRefused(f"checkpoint: {' '.join(str(error).split())}") from error

    def _total(
        self,
        rows: NDArray[np.int64],
        latent: torch.Tensor,
        window: Window,
        targets: torch.Tensor,
        ticks: torch.Tensor,
    ) -> Terms:
        """`Losses.total` of windows that begin in `rows`; replay learns of their errors."""
        terms = self.losses.total(self.model, latent, window, targets, ticks)
        if self.windows.replay is not None:
            self.windows.replay.learn(rows, self.losses.errors.cpu().numpy())
        return terms

    def _draw(self, stage: Stage, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Window]:
        """Ticks of targets, first rows (count,) of random windows, and what happens in them."""
        later = self.windows.later(stage, self.rng)
        rows, window = self.windows.draw(stage, later, count, self._share, self.known, self.rng)
        return later, rows, window

"""How a world model is trained: its three stages, what windows they are shown, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from wm_vla_ros.training.world_model_loss import LossConfig


@dataclass(frozen=True, slots=True)
class Stage:
    """share: of the whole budget, 0: left out. batch: frames or windows a step. ticks: length of a window."""

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

    strides: how many ticks ahead predictions are held against what came, one of them drawn for each step and
    moved up to the next tick with an image; empty for every image. autoregressive: predictions go on from
    predictions through the whole window, and the targets are every so many ticks; False (teacher forcing)
    begins each stride anew from an encoded image. priority: exponent of prioritised replay, which takes the
    place of `contact`; 0 draws uniformly. imagined: share of the dynamics stage's windows that are imagined.
    precision: of the convolutions, of `devices.PRECISIONS`; auto: bf16 where the machine multiplies it.
    """

    encoder: Stage = Stage(0.42, 64, 2e-3)
    joint: Stage = Stage(0.38, 64, 1e-3, 30)
    dynamics: Stage = Stage(0.2, 256, 1e-3, 40)
    targets: int = 2
    contact: float = 0.5
    hide_rotation: float = 0.5
    target_rate: float = 0.02
    loss: LossConfig = field(default_factory=LossConfig)
    strides: tuple[int, ...] = ()
    autoregressive: bool = True
    priority: float = 0.0
    imagined: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        if any(stride < 1 for stride in self.strides):
            raise ValueError(f"strides: expected ticks of at least 1, got {self.strides}")
        for name in ("priority", "imagined"):
            if not 0.0 <= getattr(self, name) < (1.0 if name == "imagined" else 1.0 + 1e-9):
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")

    def going_on(self, thaw: bool) -> TrainConfig:
        """The stages of a model that is trained already, with the whole budget.

        Of the last one alone; with `thaw` of the joint one too, in which the encoder trains on. The first is
        for encoders that see nothing yet.
        """
        joint = self.joint.share if thaw else 0.0
        whole = joint + self.dynamics.share
        return replace(
            self,
            encoder=replace(self.encoder, share=0.0),
            joint=replace(self.joint, share=joint / whole),
            dynamics=replace(self.dynamics, share=self.dynamics.share / whole),
        )


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

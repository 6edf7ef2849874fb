"""The contract of families of world models in torch: what a trainer and an exporter ask of one.

A family says how a latent is normalised, how it moves on (its dynamics), and by which losses, beside those
that all share (`training.world_model_loss`), it is learned. `modules` has what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wm_vla_ros.world_models.modules import Encoder, Grounding, ModelConfig, Norm, Transition

if TYPE_CHECKING:
    from wm_vla_ros.data.lerobot_reader import EpisodeArrays

Terms = dict[str, Tensor]

# Standard deviation under which a proprioception or action entry counts as constant (rad, m or [-1, 1]).
CONSTANT = 1e-3
# What a family may need of a data set.
NEEDS = ("cameras", "state", "success")
# Metres: a position that hardly varies (a cube's height) is not blown up to unit variance.
MIN_SPREAD = 0.01


@dataclass(frozen=True, slots=True)
class Window:
    """B windows of T ticks, and what a family wants to know of their rows.

    actions: (B, T, A). positions: (B, T + 1, G) metres, from the start's on. known: the family's
    `row_targets` at the same rows, (B, T + 1, ...) each. weight: (B,) of each window in the shared losses,
    None for one each. later: (B, K, D) latents of K frames in the window without gradient, as the target
    encoder has them; later_ticks: (B, K), how many actions after the start they come.
    """

    actions: Tensor
    positions: Tensor
    known: Mapping[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None
    later: Tensor | None = None
    later_ticks: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ImaginedWindow:
    """B windows of T ticks that never happened.

    start: (B, D) recorded latents. actions: (B, T, A). latents: (B, T, D) and positions: (B, T, G) as the
    slow copy imagines them.
    """

    start: Tensor
    actions: Tensor
    latents: Tensor
    positions: Tensor


@dataclass(frozen=True, slots=True)
class Graph:
    """What a family exports beside the shared files: a module of one output, example inputs and their names.

    dynamic: as `torch.export` takes it, None for fixed shapes.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    dynamic: tuple[Any, ...] | None = None


class LatentWorldModel(nn.Module):
    """One family: `encoder`, `dynamics` and `grounding`, and what it adds to the losses that all share.

    family: its name. norm: how its encoder ends. dynamics_type: its `Transition`; encoder and dynamics of
    sizes that `ModelConfig` does not name are made by the family. needs: of NEEDS, what no data set may lack.
    All else has a default that adds nothing.
    """

    family: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    norm: ClassVar[Norm]
    dynamics_type: ClassVar[type[Transition]]

    def __init__(
        self, config: ModelConfig, encoder: Encoder | None = None, dynamics: Transition | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or Encoder(config, type(self).norm)
        self.dynamics = dynamics or self.dynamics_type(config)
        self.grounding = Grounding(config)

    def options(self) -> dict[str, Any]:
        """The family's own numbers, for a report."""
        return {}

    def metadata(self) -> dict[str, str]:
        """What the file of weights is to say of them."""
        return {}

    def untaught(self, data: EpisodeArrays) -> tuple[str, ...]:
        """What of the family's own these data cannot teach, in words: it trains without, and says so."""
        return ()

    def row_targets(self, data: EpisodeArrays) -> dict[str, NDArray]:
        """What the family's losses need to know of every row, (N, ...) by name."""
        return {}

    def ahead(self) -> tuple[int, ...]:
        """Ticks after a window's first at which the last stage has to show the family a frame's latent."""
        return ()

    def graphs(self) -> dict[str, Graph]:
        """What to export beside encoder, dynamics and grounding, by file name."""
        return {}

    def weights(self) -> dict[str, Tensor]:
        """What the file of weights is to hold, by name."""
        return self.state_dict()

    def licences(self) -> tuple[str, ...]:
        """Of what the model is made from beside its data, in words."""
        return ()

    def readable(self, latents: Tensor) -> Tensor:
        """The latents that grounding learns to read; detached where it is not to shape them."""
        return latents

    def encoded_terms(self, latent: Tensor) -> Terms:
        """Weighted losses of encoded latents (B, D), by name."""
        return {}

    def frame_terms(self, latent: Tensor, known: Mapping[str, Tensor]) -> Terms:
        """The same with what is known of their rows, `row_targets` (B, ...)."""
        return self.encoded_terms(latent)

    def window_terms(self, latent: Tensor, predictions: Tensor, window: Window) -> Terms:
        """Weighted losses of windows: first latents (B, D), predicted ones (B, T, D)."""
        return {}

    def held_out(
        self, latents: Tensor, known: Mapping[str, Tensor], episode: NDArray[np.int64]
    ) -> dict[str, float]:
        """What the family's heads are worth on unseen frames, by name.

        latents: (F, D), known: `row_targets` at the same rows, episode: (F,); frames in their order.
        """
        return {}

    def normalise(
        self,
        proprio: NDArray[np.float32],
        actions: NDArray[np.float32],
        positions: NDArray[np.float32],
        constant: float = CONSTANT,
        least: float | NDArray[np.float64] = MIN_SPREAD,
    ) -> None:
        """Take the data's means and scales over rows of proprio (N, P), actions (N, A), positions (N, G).

        constant: deviation under which an entry never varies. least: of a position's, one or (G,).

        An entry that never varies gets the scale 0: nothing was learned about it, so nothing is to depend
        on it, least of all a planner that tries it out.
        """
        for values, mean, scale in (
            (proprio, self.encoder.proprio_mean, self.encoder.proprio_scale),
            (actions, self.dynamics.action_mean, self.dynamics.action_scale),
        ):
            deviation = values.std(0, dtype=np.float64)
            mean.copy_(torch.from_numpy(values.mean(0, dtype=np.float64)))
            varies = deviation > constant
            scale.copy_(torch.from_numpy(np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)))
        self.grounding.mean.copy_(torch.from_numpy(positions.mean(0, dtype=np.float64)))
        spread = np.maximum(positions.std(0, dtype=np.float64), least)
        self.grounding.std.copy_(torch.from_numpy(spread))

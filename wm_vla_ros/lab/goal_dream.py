"""A world model as a dream in which there is a goal: what `training.dream.Dreamer` learns in, for an arm.

The reward of a tick is minus the distance that is left, so it is dense, needs no label and no reward model,
and any frame of any episode can be a goal (hindsight: Andrychowicz et al., "Hindsight Experience Replay",
NeurIPS 2017). It is measured in metres through the linear grounding (docs/adr/0028).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wm_vla_ros.lab.dream import Sizes
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.modules import Transition

# Metres that cost 1 per tick; and distances under the second hardly count, which keeps the gradient at the
# goal finite and grounding's own error from being chased.
SCALE, NEAR = 0.05, 0.003


class GoalConditionedState(NamedTuple):
    """Where the arm is and where it is to go: latents (..., D) both."""

    latent: Tensor
    goal: Tensor

    @property
    def features(self) -> Tensor:
        """(..., 2 D): the latent, and the way to the goal."""
        return torch.cat([self.latent, self.goal - self.latent], -1)


class DreamSizes(NamedTuple):
    """features: of an `GoalConditionedState`."""

    features: int
    action_dim: int


class GoalDream(nn.Module):
    """Frozen dynamics and grounding, with actions scaled to what the data did.

    weight, bias: (D, G), (G,) latents to metres. low, high: (A,) what the dreamer's -1 and 1 mean; an entry
    where they are equal is always that.
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, dynamics: Transition, weight: FloatArray, bias: FloatArray, low: FloatArray, high: FloatArray
    ) -> None:
        super().__init__()
        self.dynamics = dynamics.requires_grad_(False)
        for name, value in (("weight", weight), ("bias", bias), ("low", low), ("high", high)):
            self.register_buffer(name, torch.tensor(value))
        self._sizes = DreamSizes(2 * len(weight), len(low))

    @property
    def config(self) -> Sizes:
        return self._sizes

    def scaled(self, action: Tensor) -> Tensor:
        """The robot's action (..., A) for one in [-1, 1]."""
        return self.low + (0.5 + 0.5 * action) * (self.high - self.low)

    def imagine(self, state: GoalConditionedState, action: Tensor) -> GoalConditionedState:
        return GoalConditionedState(self.dynamics(state.latent, self.scaled(action)), state.goal)

    def reward(self, state: GoalConditionedState) -> Tensor:
        return rewards(self.ground(state.latent), self.ground(state.goal))

    def going_on(self, state: GoalConditionedState) -> Tensor:
        """1: the distance is to stay small, and a recording that ends has not changed the world."""
        return torch.ones_like(state.latent[..., 0])

    def ground(self, latent: Tensor) -> Tensor:
        """Metres (..., G) of latents (..., D)."""
        return latent @ self.weight + self.bias


def rewards(positions: Tensor, goal: Tensor) -> Tensor:
    """(...) for being at `positions` (..., G) in metres when `goal` (..., G) is asked for.

    Columns are x, y, z of one thing after the other. Minus the sum of the things' distances in units of
    `SCALE`, each rounded off below `NEAR`: a cube that has to be moved is not outweighed by a tip that is
    near, as it would be under the distance of all as one vector.
    """
    apart = (positions - goal).unflatten(-1, (-1, 3)).square().sum(-1)
    return -((apart + NEAR**2).sqrt() - NEAR).sum(-1) / SCALE

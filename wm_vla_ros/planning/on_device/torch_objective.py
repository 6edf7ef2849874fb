"""The objective's terms on tensors: the same numbers as in numpy, differentiable and on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_vla_ros.planning.objective import (
    LatentTracking,
    Rollouts,
    Smoothness,
    Term,
    TipTracking,
    Workspace,
)
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel


@dataclass(frozen=True, slots=True)
class Frame:
    """What one tick asks, on the model's device.

    latent: (D,) where plans start. bias: (A,) added to every action. The rest as in `Rollouts`, but for
    latent_weight, always (D,).
    """

    latent: Tensor
    bias: Tensor
    previous: Tensor
    target_latents: Tensor
    target_grounded: Tensor
    latent_weight: Tensor


@dataclass(frozen=True, slots=True)
class Futures:
    """N imagined futures: actions (N, H, A), latents (N, H, D), grounded (N, H, G) in metres."""

    actions: Tensor
    latents: Tensor
    grounded: Tensor


@dataclass(frozen=True, slots=True)
class Shape:
    """What a form is built for: ticks H, grounded columns G, and where its constants are to lie."""

    horizon: int
    grounded: int
    device: torch.device


Form = Callable[[Futures, Frame], Tensor]


def frame_arrays(latent: FloatArray, bias: FloatArray, asked: Rollouts) -> dict[str, FloatArray]:
    """The arrays of a `Frame` by name. asked: of which only what does not depend on the actions is read."""
    return {
        "latent": latent,
        "bias": bias,
        "previous": asked.previous,
        "target_latents": asked.target_latents,
        "target_grounded": asked.target_grounded,
        "latent_weight": np.broadcast_to(np.asarray(asked.latent_weight, np.float32), latent.shape),
    }


class TorchObjective:
    """The sum of the terms that have a form here, over `horizon` ticks. left_out: names of the others.

    Forms are written for few kernels: on a GPU each costs as much as its launch, however small.
    """

    def __init__(self, model: TorchWorldModel, terms: Sequence[Term], horizon: int) -> None:
        """Raises ValueError when no term has a form."""
        self.model = model
        shape = Shape(horizon, len(model.grounding_names), model.device)
        self._forms = [_FORMS[type(term)](term, shape) for term in terms if type(term) in _FORMS]
        self.left_out = tuple(term.name for term in terms if type(term) not in _FORMS)
        if not self._forms:
            raise ValueError(f"none of the objective's terms has a form in torch: {', '.join(self.left_out)}")

    def cost(self, actions: Tensor, frame: Frame) -> Tensor:
        """(N,) of actions (N, H, A), imagined from the frame's latent."""
        start = frame.latent.expand(len(actions), -1)
        latents, grounded = self.model.imagine(start, actions + frame.bias)
        futures = Futures(actions, latents, grounded)
        return torch.stack([form(futures, frame) for form in self._forms]).sum(0)

    def gradient(
        self, actions: FloatArray, latent: FloatArray, bias: FloatArray, asked: Rollouts
    ) -> FloatArray:
        """(N, H, A): how each sequence's cost changes with its actions (N, H, A)."""
        torch.set_num_threads(1)  # holds for the calling thread alone, and costs 0.2 us
        device = self.model.device
        arrays = frame_arrays(latent, bias, asked)
        frame = Frame(**{name: torch.tensor(value, device=device) for name, value in arrays.items()})
        leaf = torch.tensor(actions, device=device, requires_grad=True)
        self.cost(leaf, frame).sum().backward()
        assert leaf.grad is not None
        return leaf.grad.cpu().numpy()


def _tip_tracking(term: TipTracking, shape: Shape) -> Form:
    weights = torch.zeros(shape.horizon, shape.grounded, device=shape.device)
    weights[:, list(term.columns)] = term.weight / term.scale**2 / shape.horizon
    weights[-1] *= term.terminal

    def cost(futures: Futures, frame: Frame) -> Tensor:
        error = futures.grounded - frame.target_grounded
        return (error.square() * weights).sum((1, 2))

    return cost


def _latent_tracking(term: LatentTracking, shape: Shape) -> Form:
    def cost(futures: Futures, frame: Frame) -> Tensor:
        error = futures.latents - frame.target_latents
        weights = frame.latent_weight * (term.weight / error[0].numel())
        return (error.square() * weights).sum((1, 2))

    return cost


def _smoothness(term: Smoothness, shape: Shape) -> Form:
    factor = term.weight / term.scale**2 / shape.horizon

    def cost(futures: Futures, frame: Frame) -> Tensor:
        before = frame.previous.expand(len(futures.actions), 1, -1)
        change = torch.cat([before, futures.actions], 1).diff(dim=1)
        return factor * change.square().sum((1, 2))

    return cost


def _workspace(term: Workspace, shape: Shape) -> Form:
    factor = term.weight / term.scale**2 / shape.horizon

    def cost(futures: Futures, frame: Frame) -> Tensor:
        depth = (term.lowest - futures.grounded[:, :, term.column]).clamp_min(0.0)
        return factor * depth.square().sum(1)

    return cost


_FORMS: dict[type, Callable[[Any, Shape], Form]] = {
    TipTracking: _tip_tracking,
    LatentTracking: _latent_tracking,
    Smoothness: _smoothness,
    Workspace: _workspace,
}

"""A whole plan as one program of fixed shapes on the model's device; on a GPU, captured once as a CUDA graph.

The algorithm is `Mppi`'s, number for number: noise, rollouts, costs, the choice of the best and the weighted
mean all stay on the device. Launching its 1,000 small kernels one by one costs more than computing them; a
graph is launched once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wm_vla_ros.planning.objective import Rollouts, Term
from wm_vla_ros.planning.on_device.torch_objective import Frame, TorchObjective, frame_arrays
from wm_vla_ros.planning.samplers import MotionLimits, Mppi, NoFiniteCost, Solution
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

# Candidates that a tick may bring. Places that it does not fill hold them again in turn, so that noise is
# drawn around each alike.
SLOTS = 6
_WARM_UP = 3


class WholePlan:
    """Plans with `sampler`'s settings. All its iterations are run: a graph cannot stop half-way.

    Off a GPU the same program runs as it is written, for tests.
    """

    def __init__(self, model: TorchWorldModel, terms: Sequence[Term], sampler: Mppi, seed: int) -> None:
        """Raises ValueError for a term that has no form in torch, or fewer samples than candidates."""
        self._objective = TorchObjective(model, terms, sampler.config.horizon)
        if self._objective.left_out:
            names = ", ".join(self._objective.left_out)
            raise ValueError(f"a whole plan on the device cannot judge by {names}: give them the weight 0")
        config = sampler.config
        if config.samples <= SLOTS:
            raise ValueError(f"samples: a whole plan needs more than {SLOTS}, got {config.samples}")
        self._sampler, self._device = sampler, model.device
        self._basis = torch.tensor(sampler.basis, device=self._device)
        self._sigma, self._lower, self._upper = (
            torch.tensor(values, dtype=torch.float32, device=self._device)
            for values in (config.sigma, config.lower, config.upper)
        )
        self._generator = torch.Generator(self._device).manual_seed(seed)
        dim, grounded, action = model.latent_dim, len(model.grounding_names), len(config.sigma)
        shapes = {
            "latent": (dim,),
            "bias": (action,),
            "previous": (action,),
            "target_latents": (config.horizon, dim),
            "target_grounded": (config.horizon, grounded),
            "latent_weight": (dim,),
            "candidates": (SLOTS, config.horizon, action),
            "last": (2, action),
        }
        # One copy in and one out: every transfer costs as much as dozens of these kernels.
        pinned = self._device.type == "cuda"
        self._staging = torch.zeros(sum(map(_size, shapes.values())), pin_memory=pinned)
        self._inputs = self._staging.to(self._device, copy=True)
        self._staged = _views(self._staging, shapes)
        views = _views(self._inputs, shapes)
        self._candidates, self._last = views.pop("candidates"), views.pop("last")
        self._frame = Frame(**views)
        self._output = torch.zeros(config.horizon * action + 2, device=self._device)
        self._answer = torch.zeros(self._output.shape, pin_memory=pinned)
        self._graph = self._captured() if self._device.type == "cuda" else None

    def solve(
        self,
        candidates: Sequence[FloatArray],
        latent: FloatArray,
        bias: FloatArray,
        asked: Rollouts,
        last: FloatArray,
    ) -> Solution:
        """As `Sampler.solve`, towards what is asked, from `latent` (D,) with `bias` (A,) on every action.

        last: (2, A) the actions before the first, oldest first.

        Raises NoFiniteCost, and ValueError on candidates of another shape or more than there is room for.
        """
        shape = tuple(self._staged["candidates"].shape[1:])
        given = np.stack([np.asarray(candidate, np.float32) for candidate in candidates])
        if given.shape[1:] != shape or len(given) > SLOTS:
            raise ValueError(f"candidates are {given.shape}, need at most {SLOTS} of {shape}")
        filled = given[np.arange(SLOTS) % len(given)]
        asks = {**frame_arrays(latent, bias, asked), "candidates": filled, "last": last}
        for name, value in asks.items():
            staged = self._staged[name]
            if value.shape != staged.shape:
                raise ValueError(f"{name}: expected {tuple(staged.shape)}, got {value.shape}")
            staged.numpy()[...] = value
        self._inputs.copy_(self._staging, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
        else:
            torch.set_num_threads(1)
            self._program()
        self._answer.copy_(self._output)
        answer = self._answer.numpy()
        if answer[-1] == 0:
            raise NoFiniteCost(f"all {self._sampler.config.samples} candidates cost NaN or infinity")
        return Solution(answer[:-2].reshape(shape).copy(), float(answer[-2]), int(answer[-1]))

    @torch.no_grad()
    def _program(self) -> None:
        """From `_frame` and `_candidates` to `_output`: plan, cost of the best sample, iterations done.

        Only fixed shapes, and nothing that the host would have to look at in between.
        """
        config = self._sampler.config
        centres, spread = self._candidates, self._sigma
        mean, best = centres[0], centres[:1]
        best_cost = torch.full((1,), torch.inf, device=self._device)
        alive = torch.ones(1, dtype=torch.bool, device=self._device)
        done = torch.zeros(1, device=self._device)
        for _ in range(config.iterations):
            population = self._population(centres, spread)
            costs = self._objective.cost(population, self._frame)
            finite = costs.isfinite()
            alive = alive & finite.any()
            costs = torch.where(finite, costs, torch.inf)
            lowest, at = costs.min(0, keepdim=True)
            better = alive & (lowest < best_cost)
            best = torch.where(better, population.index_select(0, at), best)
            best_cost = torch.where(better, lowest, best_cost)
            weights = self._weights(costs, lowest, finite)
            weighted = (weights @ population.flatten(1)).view_as(mean)
            mean = torch.where(alive, weighted, mean)
            centres = torch.cat([mean[None], best])
            spread = spread * float(self._sampler.shrink)
            done = done + alive
        self._output.copy_(torch.cat([mean.flatten(), best_cost, done]))

    def _population(self, centres: Tensor, spread: Tensor) -> Tensor:
        """`Mppi._draw`: the centres, then smooth perturbations of each in turn."""
        count = self._sampler.config.samples - len(centres)
        noise = self._basis @ (self._normal((count, self._basis.shape[1], len(spread))) * spread)
        repeats = -(-count // len(centres))
        around = centres.repeat(repeats, 1, 1)[:count]
        inside = torch.cat([centres, around + noise]).clamp(self._lower, self._upper)
        limits = self._sampler.config.limits
        return inside if limits is None else _limited(inside, self._last, limits)

    def _weights(self, costs: Tensor, lowest: Tensor, finite: Tensor) -> Tensor:
        """`Mppi._learn`: exp(-cost / temperature), relative to the spread of the best quarter."""
        quarter = costs.topk(len(costs) // 4 + 1, largest=False).values
        last = quarter.gather(0, finite.sum(0, keepdim=True) // 4)
        width = (self._sampler.temperature * (last - lowest)).clamp_min(1e-9)
        return torch.softmax(costs / -width, 0)  # infinite costs weigh nothing

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._device)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """The program as a graph, after runs on a side stream that allocate what it will use."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._program()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)  # or every replay would draw the same noise
        with torch.cuda.graph(graph):
            self._program()
        return graph


def _limited(actions: Tensor, last: Tensor, limits: MotionLimits) -> Tensor:
    """`MotionLimits.apply`: actions (N, H, A) after `last` (2, A)."""
    velocity = _within(last[1:, :3], limits.speed)
    change = _within(last[1:, :3] - last[:1, :3], limits.change)
    motion = []
    for wanted in actions[:, :, :3].unbind(1):
        change = _within(change + _within(wanted - velocity - change, limits.jerk), limits.change)
        velocity = velocity + change
        motion.append(_within(velocity, limits.speed))
    return torch.cat([torch.stack(motion, 1), actions[:, :, 3:]], 2)


def _within(vectors: Tensor, length: float) -> Tensor:
    size = vectors.square().sum(1, keepdim=True).add(1e-18).sqrt()
    return vectors * (length / size).clamp_max(1.0)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _views(buffer: Tensor, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Consecutive parts of a flat buffer under their names."""
    parts = buffer.split([_size(shape) for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

"""Where a training runs: one device, or several processes that share every step, through HF Accelerate.

Every process draws windows of its own and all take the same step, along the mean of their gradients: N
processes make a batch N times as large. Gradients are averaged here, in one piece, where Accelerate's wrapper
would hook a single `forward`: a world model is called by its parts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros.world_models.manifest import ModelRefused

AUTO, BF16, FULL = "auto", "bf16", "no"
PRECISIONS = (AUTO, BF16, FULL)
# Bytes that the state of numpy's generator takes as JSON, filled up with spaces.
_NUMPY_BYTES = 512


def has_bfloat16(device: str) -> bool:
    """Whether a device, cpu or cuda, multiplies bfloat16: one that emulates it is several times slower."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def chosen_precision(precision: str, device: str) -> str:
    """bf16 or no: what "auto" means on a device, cpu or cuda.

    Raises ValueError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; valid: {', '.join(PRECISIONS)}")
    if precision == AUTO:
        return BF16 if has_bfloat16(device) else FULL
    return precision


class Devices:
    """device: of this process. main: whether it is the one that writes. count: how many there are."""

    def __init__(self, device: str = "cpu", precision: str = AUTO) -> None:
        """precision: of what may run under autocast; weights, losses and positions stay in float32.

        Raises ValueError for an unknown precision.
        """
        precision = chosen_precision(precision, device)
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        if not torch.distributed.is_initialized():
            AcceleratorState._reset_state(True)  # one training after another may ask for another device
        self._accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
        self.device: torch.device = self._accelerator.device
        self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self.main: bool = self._accelerator.is_main_process

    def autocast(self) -> AbstractContextManager:
        """Matrix products in the precision asked for."""
        return self._accelerator.autocast()

    def tensor(self, array: NDArray) -> Tensor:
        """The array on this process's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def generator(self, seed: int) -> np.random.Generator:
        """Numbers of this process; the seed's own in the first. Seeds torch in the others."""
        if self.rank == 0:
            return np.random.default_rng(seed)
        torch.manual_seed(seed + 1000 * self.rank)
        return np.random.default_rng([seed, self.rank])

    def average(self, weights: Sequence[Tensor]) -> None:
        """Replace every gradient by its mean over the processes; one that is missing counts as zero."""
        if self.count == 1:
            return
        flat = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in weights])
        mean = self._accelerator.reduce(flat, "mean")
        for weight, part in zip(weights, mean.split([w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight).clone()

    def agreed(self, value: float) -> float:
        """The main process's value, for all."""
        if self.count == 1:
            return value
        told = torch.tensor([value if self.main else 0.0], dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(told, "sum"))

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def stacked(self, tensor: Tensor) -> Tensor:
        """(processes, ...) what every process has, on the CPU."""
        return self._accelerator.gather(tensor[None].to(self.device)).cpu()

    def random_state(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The state of all generators of all processes, one row each."""
        text = json.dumps(rng.bit_generator.state).encode().ljust(_NUMPY_BYTES)
        states = {"numpy": torch.tensor(list(text), dtype=torch.uint8), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: self.stacked(state) for name, state in states.items()}

    def restore_random(self, rng: np.random.Generator, states: dict[str, Tensor]) -> None:
        """Put this process's state back. Raises ModelRefused when there were more or fewer processes."""
        found = len(states.get("numpy", ()))
        if found != self.count:
            raise ModelRefused(f"checkpoint: expected {self.count} processes as now, found {found} then")
        rng.bit_generator.state = json.loads(states["numpy"][self.rank].numpy().tobytes())
        # Cloned: torch reads a state where it lies, and crashes on a row that is not aligned.
        torch.set_rng_state(states["torch"][self.rank].clone())
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"][self.rank].clone(), self.device)

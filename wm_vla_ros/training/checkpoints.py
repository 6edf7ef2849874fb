"""Checkpoints of a training: safetensors and JSON, written whole, checked when read. Nothing is pickled.

A checkpoint is two files: `step_00000200.safetensors` and `step_00000200.json`, which has the state that is
no tensor and one sha256 over both. The JSON is written last: without it there is no checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from wm_vla_ros.files import PARTIAL, write_whole
from wm_vla_ros.world_models.manifest import MAX_MANIFEST_BYTES, ModelRefused
from wm_vla_ros.world_models.tensors import read_tensors

FORMAT = 1
# Larger than model, target and optimiser of anything trained here.
MAX_BYTES = 4 * 1024**3
_DTYPES = ("F32", "F64", "I64", "U8", "BOOL")
_NAME = re.compile(r"step_(\d{8})\.(json|safetensors)\Z")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """tensors: by name, on the CPU. state: what JSON can say. step: of the whole training."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The newest few checkpoints in one folder; one process writes them."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder, self._keep = folder, keep

    def steps(self) -> list[int]:
        """Of the checkpoints that were written to their end, the newest first."""
        found = [_NAME.match(path.name) for path in self._folder.glob("step_*.json")]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write one, then let go of all but the newest `keep`. state: what JSON can say, finite."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = torch.contiguous_format  # whatever the layout in memory, and no two tensors on the same bytes
        content = save(
            {name: value.detach().cpu().clone(memory_format=own) for name, value in tensors.items()}
        )
        text = json.dumps(state, allow_nan=False, sort_keys=True)
        told = {"format": FORMAT, "bytes": len(content), "sha256": _digest(content, text), "state": state}
        write_whole(self._tensors(step), content)
        write_whole(self._json(step), json.dumps(told, allow_nan=False, indent=1).encode())
        kept = self.steps()[: self._keep]
        # Also what a killed process left half-written. By name, so a JSON goes before its tensors: whoever is
        # killed between the two leaves no checkpoint that is not whole.
        for path in sorted(self._folder.iterdir()):
            match = _NAME.match(path.name.removesuffix(PARTIAL))
            if match and (path.name.endswith(PARTIAL) or int(match[1]) not in kept):
                path.unlink()

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest that is sound, and why each newer one is not. None when there never was any.

        Raises ModelRefused when there are some and none is sound.
        """
        refused: list[str] = []
        for step in self.steps():
            try:
                return self.read(step), refused
            except ModelRefused as error:
                refused.append(str(error))
        if refused:
            raise ModelRefused(f"no checkpoint in {self._folder} is sound: {'; '.join(refused)}")
        return None, refused

    def read(self, step: int) -> Checkpoint:
        """Raises ModelRefused for a file that is missing, too large, altered, or not what it should be."""
        path = self._tensors(step)
        try:
            told = json.loads(_bounded(self._json(step), MAX_MANIFEST_BYTES))
            expected, state = told["sha256"], told["state"]
            size, form = told["bytes"], told["format"]
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelRefused):
                raise
            raise ModelRefused(f"{self._json(step).name}: expected a checkpoint, found {error!r}") from error
        if form != FORMAT:
            raise ModelRefused(f"{self._json(step).name}: expected format {FORMAT}, found {form!r}")
        content = _bounded(path, MAX_BYTES)
        if len(content) != size:
            raise ModelRefused(f"{path.name}: expected {size} bytes, found {len(content)}")
        found = _digest(content, json.dumps(state, sort_keys=True))
        if found != expected:
            raise ModelRefused(f"sha256 of {path.name}: expected {expected}, found {found}")
        arrays = read_tensors(content, path.name, _DTYPES)
        return Checkpoint(
            step, {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}, state
        )

    def _tensors(self, step: int) -> Path:
        return self._folder / f"step_{step:08d}.safetensors"

    def _json(self, step: int) -> Path:
        return self._folder / f"step_{step:08d}.json"


def _digest(content: bytes, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    digest.update(content)
    return digest.hexdigest()


def _bounded(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise ModelRefused(f"expected {path.name} in {path.parent}, found none")
    size = path.stat().st_size
    if size > limit:
        raise ModelRefused(f"{path.name}: expected at most {limit} bytes, found {size}")
    return path.read_bytes()


def parts(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, by what follows."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors, their names behind `prefix` and a dot."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers of each weight, by the weight's number and the name of the entry."""
    memory = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, own in memory.items() for name, value in own.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave. Raises ModelRefused when it does not fit the weights."""
    memory: dict[int, dict[str, Tensor]] = {}
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for name, value in tensors.items():
        number, _, entry = name.partition(".")
        own = memory.setdefault(int(number), {})
        if value.dim() == 0:  # the count of steps
            own[entry] = value
        elif int(number) < len(weights) and value.shape == weights[int(number)].shape:
            own[entry] = torch.empty_like(weights[int(number)]).copy_(value)  # in the weight's own layout
        else:
            raise ModelRefused(f"checkpoint: the optimiser's {name} fits no weight")
    optimiser.load_state_dict({"state": memory, "param_groups": optimiser.state_dict()["param_groups"]})

"""Tasks: what an instruction asks for, and when it is done. Pure geometry in the base frame, metres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUBES = ("red", "green", "blue")
PADS = ("green", "yellow")
CUBE_SIZE = 0.025

# Names of the ground-truth object vector: what grounding heads and probes are trained on.
OBJECT_STATE_NAMES = (
    *(f"{cube}_cube.{axis}" for cube in CUBES for axis in "xyz"),
    *(f"{pad}_pad.{axis}" for pad in PADS for axis in "xyz"),
)

Positions = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Task:
    """One instruction. pad is None for a reach. tolerance in metres, time_limit in seconds."""

    name: str
    instruction: str
    cube: str
    pad: str | None
    tolerance: float
    time_limit: float

    def distance(self, tip: NDArray[np.float64], cubes: Positions, pads: Positions) -> float:
        """Metres still missing: tip to cube centre, or cube centre to pad centre in the table plane."""
        if self.pad is None:
            return float(np.linalg.norm(np.asarray(tip) - cubes[self.cube]))
        return float(np.linalg.norm(np.asarray(cubes[self.cube])[:2] - np.asarray(pads[self.pad])[:2]))

    def success(self, tip: NDArray[np.float64], cubes: Positions, pads: Positions) -> bool:
        """Whether the world is in the state that was asked for."""
        return self.distance(tip, cubes, pads) < self.tolerance


def _reach(cube: str) -> Task:
    return Task("reach", f"touch the {cube} cube", cube, None, tolerance=0.02, time_limit=6.0)


def _push(cube: str, pad: str) -> Task:
    return Task("push", f"push the {cube} cube to the {pad} pad", cube, pad, tolerance=0.03, time_limit=15.0)


TASKS: dict[str, tuple[Task, ...]] = {
    "reach": tuple(_reach(cube) for cube in CUBES),
    "push": tuple(_push(cube, pad) for cube in CUBES for pad in PADS),
}
INSTRUCTIONS: dict[str, Task] = {task.instruction: task for group in TASKS.values() for task in group}


def from_instruction(text: str) -> Task:
    """The task that `text` names, whatever its case and spacing. Raises ValueError listing the valid ones."""
    task = INSTRUCTIONS.get(" ".join(text.lower().rstrip(" .").split()))
    if task is None:
        raise ValueError(f"unknown instruction {text!r}; valid: {'; '.join(INSTRUCTIONS)}")
    return task


def task_for_seed(name: str, seed: int) -> Task:
    """The instruction that a seeded episode of task `name` uses. Raises ValueError for an unknown name."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; valid: {', '.join(TASKS)}")
    return TASKS[name][int(np.random.default_rng([seed, 7]).integers(len(TASKS[name])))]

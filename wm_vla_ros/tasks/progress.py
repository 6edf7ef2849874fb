"""How far an instruction is done, as the world model sees it: its grounding head gives positions, metres."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.tasks.task import CUBES, PADS, Task

_AXES = "xyz"


class TaskProgress:
    """Distance and probability of success of one task from grounded positions.

    names: what the grounding head's outputs are called. std: its error in a distance, one sigma, metres.
    Raises ValueError when the head does not ground what the task is about.
    """

    def __init__(self, task: Task, names: Sequence[str], std: float) -> None:
        self._task = task
        self._std = std
        self._tip = _columns("tip", names)
        self._cubes = {cube: _columns(f"{cube}_cube", names) for cube in CUBES}
        self._pads = {pad: _columns(f"{pad}_pad", names) for pad in PADS}

    def distance(self, grounded: NDArray[np.float32]) -> float:
        """Metres still missing in the grounded positions (G,)."""
        cubes = {name: grounded[columns] for name, columns in self._cubes.items()}
        pads = {name: grounded[columns] for name, columns in self._pads.items()}
        return self._task.distance(grounded[self._tip], cubes, pads)

    def probability(self, grounded: NDArray[np.float32]) -> float:
        """Probability that the task is done in the grounded positions (G,), given their error."""
        return NormalDist(self.distance(grounded), self._std).cdf(self._task.tolerance)


def _columns(thing: str, names: Sequence[str]) -> list[int]:
    wanted = [f"{thing}.{axis}" for axis in _AXES]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(
            f"the world model does not ground {', '.join(missing)}; it grounds {', '.join(names)}"
        )
    return [names.index(name) for name in wanted]

"""How far a task still has to go, read from grounded positions: of the world as it is, or as imagined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.sequences import AXES, TIP
from wm_vla_ros.sim.layout import APPROACH
from wm_vla_ros.tasks.task import Task

# A push is done low above the table, metres.
_PUSH_HEIGHT = 0.014


def gap(task: Task, names: tuple[str, ...], positions: NDArray) -> NDArray[np.float64]:
    """`task.distance` (...,) in metres, of positions (..., G) in the order of the grounded `names`."""
    tip, cube = _at(names, positions, TIP), _at(names, positions, f"{task.cube}_cube")
    if task.pad is None:
        return np.linalg.norm(tip - cube, axis=-1)
    pad = _at(names, positions, f"{task.pad}_pad")
    return np.linalg.norm((cube - pad)[..., :2], axis=-1)


def way_left(task: Task, names: tuple[str, ...], positions: NDArray) -> NDArray[np.float64]:
    """Metres (...,) that tip and cube have yet to travel: the gap, and before a push the way to behind it."""
    left = gap(task, names, positions)
    if task.pad is None:
        return left
    tip, cube = _at(names, positions, TIP), _at(names, positions, f"{task.cube}_cube")
    pad = _at(names, positions, f"{task.pad}_pad")
    along = (pad - cube)[..., :2]
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    behind = np.concatenate(
        [cube[..., :2] - APPROACH * along, np.full_like(cube[..., :1], _PUSH_HEIGHT)], axis=-1
    )
    return left + np.linalg.norm(tip - behind, axis=-1)


def _at(names: tuple[str, ...], positions: NDArray, thing: str) -> NDArray[np.float64]:
    """(..., 3) of a thing. Raises ValueError when the names lack it."""
    wanted = [f"{thing}.{axis}" for axis in AXES]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"no {missing} among what is grounded: {list(names)}")
    return np.asarray(positions, np.float64)[..., [names.index(name) for name in wanted]]

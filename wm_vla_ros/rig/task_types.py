"""Kinds of work in which planning and imitation may differ: reach, push, precise, long, a moving target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wm_vla_ros.tasks.task import TASKS, Task, task_for_seed

# Metres between cube and pad that a precise placement may leave: half of what a push may.
PRECISE = 0.015

Instructions = tuple[Task, ...]


def _reach(seed: int) -> Instructions:
    return (task_for_seed("reach", seed),)


def _push(seed: int) -> Instructions:
    return (task_for_seed("push", seed),)


def _precise(seed: int) -> Instructions:
    return (replace(task_for_seed("push", seed), name="precise", tolerance=PRECISE),)


def _long(seed: int) -> Instructions:
    """Touch one cube, then push another."""
    push = task_for_seed("push", seed)
    others = [task for task in TASKS["reach"] if task.cube != push.cube]
    return (others[int(np.random.default_rng([seed, 8]).integers(len(others)))], push)


@dataclass(frozen=True, slots=True)
class TaskType:
    """instructions: of the episode of a seed, one after the other. target_speed: of the cube, m/s."""

    instructions: Callable[[int], Instructions]
    target_speed: float = 0.0


# moving: as in `wm-vla bench delay`.
TASK_TYPES = {
    "reach": TaskType(_reach),
    "push": TaskType(_push),
    "precise": TaskType(_precise),
    "long": TaskType(_long),
    "moving": TaskType(_reach, target_speed=0.03),
}

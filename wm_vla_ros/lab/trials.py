"""Trials: an arm in the midst of a task, what a policy proposes there, and whether it comes off.

What happens is simulated from the very state that the observation shows, so that a prediction made from the
observation can be held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.judging.held_out import Cameras
from wm_vla_ros.rig.behaviours import NoiseBursts
from wm_vla_ros.rig.collect import FIRST_SEED
from wm_vla_ros.rig.controllers import Policy
from wm_vla_ros.rig.simulated_arm import SimulatedArm
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.expert import ScriptedExpert
from wm_vla_ros.tasks.task import Task, task_for_seed
from wm_vla_ros.types import FloatArray

_FIRST_SCENE = 40_000
# Ticks that the disturbed expert acts for before the policy is asked, at most: as long as it usually takes.
_BEFORE = {"reach": 60, "push": 130}


@dataclass(frozen=True)
class Trials:
    """N trials, each in a scene of its own.

    images: camera -> (N, H, W, 3) uint8 RGB; proprio: (N, P): what was seen. tasks: N. chunks: (N, T, A)
    that the policy then proposed. came_off: (N,) whether the task was done at any tick of their execution.
    """

    images: Mapping[str, NDArray[np.uint8]]
    proprio: FloatArray
    tasks: tuple[Task, ...]
    chunks: FloatArray
    came_off: NDArray[np.bool_]


def record(
    spec: RobotSpec,
    cameras: Cameras,
    policies: Sequence[Policy],
    task: str,
    count: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Trials:
    """`count` trials of `task` in scenes that are never recorded for training, policies taking turns.

    An expert that is pushed about brings the arm somewhere on its way; there the policy is asked once, and
    its chunk executed to the end. Where the task is done already nobody is asked, and the next scene is
    taken. Raises ValueError when policies differ in the size of their chunks, or scenes run out.
    """
    sizes = {policy.chunk_size for policy in policies}
    if len(sizes) != 1:
        raise ValueError(f"policies to try need chunks of one size, got {sorted(sizes)}")
    first = _FIRST_SCENE
    if not 1 <= count <= (FIRST_SEED - first) // 4:
        raise ValueError(f"trials must be between 1 and {(FIRST_SEED - first) // 4}, got {count}")
    arm = SimulatedArm(spec, cameras.width, cameras.height)
    rows: list[dict] = []
    seed = first
    while len(rows) < count:
        rng = np.random.default_rng([seed, 11])
        about = task_for_seed(task, seed)
        if _bring(arm, about, seed, rng):
            rows.append(_try(arm, about, policies[len(rows) % len(policies)], cameras))
            progress(len(rows))
        seed += 1
    arm.world.close()
    return Trials(
        {name: np.stack([row["images"][name] for row in rows]) for name in cameras.names},
        np.stack([row["proprio"] for row in rows]),
        tuple(row["task"] for row in rows),
        np.stack([row["chunk"] for row in rows]),
        np.array([row["came_off"] for row in rows]),
    )


def _bring(arm: SimulatedArm, task: Task, seed: int, rng: np.random.Generator) -> bool:
    """Act for a while as demonstrations are recorded; whether the task is then still to be done."""
    arm.reset(seed, task)
    expert, bursts = ScriptedExpert(arm.spec, task), NoiseBursts(arm.spec)
    bursts.start(rng)
    for _ in range(int(rng.integers(_BEFORE[task.name]))):
        label = expert.action(arm.world)
        instead = bursts(label)
        arm.apply(label if instead is None else instead)
    return not arm.success(task)


def _try(arm: SimulatedArm, task: Task, policy: Policy, cameras: Cameras) -> dict:
    images = {name: image.copy() for name, image in arm.images(cameras.names).items()}
    proprio = arm.proprio()
    chunk = np.clip(policy.infer(images, proprio, task.instruction), -1.0, 1.0)
    came_off = False
    for action in chunk:
        arm.apply(action)
        came_off = came_off or arm.success(task)
    return {"images": images, "proprio": proprio, "task": task, "chunk": chunk, "came_off": came_off}

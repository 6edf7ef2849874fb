"""`wm-vla bench policy`: how long a slow policy takes for a chunk here, and what that leaves of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from wm_vla_ros.report import Figure, percentiles
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.proprio import proprio
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.vla.policy import SlowPolicy

_PIXELS = 96


def bench_policy(
    name: str,
    policy: SlowPolicy,
    spec: RobotSpec,
    instruction: str,
    repeats: int,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Figure, ...]:
    """Figures `name`.latency_p50_ms, _p99_ms and .chunk_left_ms, negative when none of it is left.

    The first inference is not counted: it allocates. Raises what `SlowPolicy.infer` raises.
    """
    rng = np.random.default_rng(0)
    state = proprio(Kinematics(spec), spec.home, spec.home)
    took = []
    for repeat in range(repeats + 1):
        images = {
            camera: rng.integers(0, 256, (_PIXELS, _PIXELS, 3), dtype=np.uint8) for camera in policy.cameras
        }
        begin = time.perf_counter()
        policy.infer(images, state, instruction)
        took.append((time.perf_counter() - begin) * 1e3)
        progress(repeat)
    median, tail = percentiles(f"{name}.latency_", took[1:])
    left = policy.chunk_size * policy.dt * 1e3 - float(median.value)
    return median, tail, Figure(f"{name}.chunk_left_ms", left, "ms", repeats)

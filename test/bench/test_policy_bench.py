"""The policy benchmark: what is timed, and what it says of the chunk."""

from __future__ import annotations

import time

import numpy as np

from wm_vla_ros.bench.policy_bench import bench_policy
from wm_vla_ros.robots.spec import load_robot


class Sleepy:
    """Thinks for 10 ms, the first time for a second; its chunks last 40 ms."""

    chunk_size, dt, cameras = 2, 0.02, ("front",)

    def __init__(self) -> None:
        self.told = []

    def infer(self, images, state, instruction):
        time.sleep(0.01 if self.told else 1.0)
        self.told.append((images["front"].shape, state.shape, instruction))
        return np.zeros((2, 7), np.float32)


def test_the_first_inference_does_not_count_and_the_rest_of_the_chunk_is_told() -> None:
    policy, done = Sleepy(), []
    figures = bench_policy("x", policy, load_robot("so101"), "touch it", 5, done.append)
    values = {figure.name: figure.value for figure in figures}
    assert 10.0 <= values["x.latency_p50_ms"] <= values["x.latency_p99_ms"] < 1000.0
    assert values["x.chunk_left_ms"] == 40.0 - values["x.latency_p50_ms"]
    assert policy.told == [((96, 96, 3), (18,), "touch it")] * 6
    assert done[-1] == 5

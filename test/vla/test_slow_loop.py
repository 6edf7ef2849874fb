"""An inference: chunk and goal of the same observation, numbered."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.types import Observation
from wm_vla_ros.vla.slow_loop import SlowLoop


class FakePolicy:
    cameras = ("front",)
    dt = 0.02

    def infer(self, images, state, instruction):
        if instruction != "touch the red cube":
            raise ValueError("unknown words")
        return np.full((5, 7), float(images["front"][0, 0, 0]), np.float32)


class FakeModel:
    """Latents count the action: a step adds the action's first entry to every dimension."""

    encoder_id = "fake-1"
    dt = 0.02
    manifest = SimpleNamespace(cameras={"wrist": (8, 8)})

    def encode(self, images, proprio):
        return np.full(4, float(proprio[0]), np.float32)

    def rollout(self, latents, actions):
        steps = np.cumsum(actions[..., :1], axis=1)
        return latents[:, None, :] + np.repeat(steps, 4, axis=2)


def test_chunk_and_goal_stem_from_the_same_observation() -> None:
    loop = SlowLoop(FakePolicy(), FakeModel(), load_robot("so101"))
    assert loop.cameras == ("front", "wrist")
    seen = Observation(12.5, {"front": np.full((8, 8, 3), 2, np.uint8)}, np.full(18, 3.0))
    chunk, goal = loop.infer(seen, "touch the red cube")
    assert chunk.stamp == goal.stamp == 12.5
    assert chunk.sequence == goal.sequence == 1
    assert goal.encoder_id == "fake-1"
    assert goal.instruction == "touch the red cube"
    # From the encoding of what was seen, one imagined step after the other along the chunk.
    np.testing.assert_allclose(goal.embeddings[:, 0], [3, 5, 7, 9, 11, 13])
    again, later = loop.infer(seen, "touch the red cube")
    assert again.sequence == later.sequence == 2


def test_an_inference_that_fails_uses_no_number() -> None:
    loop = SlowLoop(FakePolicy(), FakeModel(), load_robot("so101"))
    seen = Observation(1.0, {"front": np.zeros((8, 8, 3), np.uint8)}, np.zeros(18))
    with pytest.raises(ValueError, match="unknown words"):
        loop.infer(seen, "make tea")
    chunk, _ = loop.infer(seen, "touch the red cube")
    assert chunk.sequence == 1

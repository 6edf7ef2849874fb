"""SmolVLA's own class, tiny and with random weights, goes through the same adapter, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.vla.policy import SlowPolicy
from wm_vla_ros.vla.random_smolvla import SmolVLASizes, write_random_smolvla

CHUNK, SIZE, STATE = 10, 32, 18
TINY = SmolVLASizes(
    vision={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    text={
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 32,
    },
    image=SIZE,
    patch=8,
    scale_factor=2,
    layers=2,
    denoising=2,
    tokens=8,
    chunk=CHUNK,
)


@pytest.mark.slow
def test_smolvla_runs_behind_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    robot = load_robot("so101")
    folder = write_random_smolvla(tmp_path, TINY, robot, ("front",))
    # The camera that SmolVLA fills in by itself is not one that the stack has to have.
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"empty_cameras": 1}))
    policy = SlowPolicy(str(folder), robot=robot, cameras=("front", "wrist"))
    assert (policy.policy_type, policy.cameras, policy.chunk_size) == ("smolvla", ("front",), CHUNK)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    chunk = policy.infer({"front": image}, np.zeros(STATE, np.float32), "touch the red cube")
    assert chunk.shape == (CHUNK, 7)
    # Its own postprocessor has been applied: actions are in the data's units.
    assert 0.0 < np.abs(chunk).max() < 0.2

"""The action map, and tool-down poses all over the workspace to start from."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.robots.action_map import ActionMap


@pytest.fixture(scope="session")
def action_map(spec) -> ActionMap:
    """Shared for its cost: every test resets it first."""
    return ActionMap(spec)


@pytest.fixture(scope="session")
def starts(spec, action_map) -> list[np.ndarray]:
    """Joints with the tip on a grid over the table, the tool pitched as at home."""
    poses = []
    for x, y, z in [(x, y, z) for x in (0.17, 0.21, 0.25) for y in (-0.1, 0.0, 0.1) for z in (0.03, 0.06)]:
        action_map.reset(spec.home)
        for _ in range(60):
            error = np.array([x, y, z]) - action_map.tip_position(action_map.commanded)
            action = np.zeros(7)
            action[:3] = np.clip(error / spec.translation_scale, -0.2, 0.2)
            action_map.commit(action_map.step(action, action_map.commanded))
        assert np.linalg.norm(error) < 1e-4
        poses.append(action_map.commanded)
    return poses

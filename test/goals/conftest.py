"""Goals in the linear model's latent space."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.types import LatentGoal


@pytest.fixture(scope="session")
def make_goal(linear_model):
    """make_goal(tips (S, 3), cubes=(S, 3) or None, **fields): a goal through these points, stamped 10 s."""

    def make(tips, cubes=None, **fields) -> LatentGoal:
        values = {
            "stamp": 10.0,
            "sequence": 5,
            "instruction": "touch the red cube",
            "encoder_id": linear_model.encoder_id,
            "embeddings": linear_model.latent(np.atleast_2d(tips), cubes),
            "dt": 0.02,
            "valid_for": 1.0,
        }
        return LatentGoal(**values | fields)

    return make

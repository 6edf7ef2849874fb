"""What several of these tests run on."""

from __future__ import annotations

import pytest

from wm_vla_ros.evaluation.rig import Rig


@pytest.fixture(scope="module")
def rig(spec):
    """Without cameras: nothing here looks at an image, and most of an episode's time would go into them."""
    rig = Rig(spec, (), (96, 96))
    yield rig
    rig.world.close()

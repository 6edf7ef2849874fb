"""A node's process, from its start to the signal that ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAND_IN = Path(__file__).parent / "stand_ins" / "interrupted.py"


def test_a_signal_in_the_moment_before_the_wait_ends_the_node():
    """Its handler set the event that the main thread was about to wait for: deadlock, or a signal unseen."""
    own = os.environ | {"ROS_DOMAIN_ID": "87", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    done = subprocess.run(
        [sys.executable, str(STAND_IN)], env=own, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr

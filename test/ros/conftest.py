"""rclpy in this process, on a domain of its own and on this machine only."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def ros(monkeypatch):
    """Start rclpy for one test; returns the module."""
    import rclpy

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(domain_id=1 + os.getpid() % 100)
    yield rclpy
    rclpy.shutdown()

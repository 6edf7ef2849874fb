"""A ROS 2 control stack for robot arms: a slow VLA loop, a fast world-model MPC loop, a gated driver."""

import os

# Before anything here imports ONNX Runtime, which otherwise reports on its use to its maker
# (docs/adr/0035). Who wants that says so: ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

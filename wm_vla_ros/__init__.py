"""A ROS 2 control stack for robot arms: a slow VLA loop, a fast world-model MPC loop, a gated driver."""

__version__ = "0.1.0"

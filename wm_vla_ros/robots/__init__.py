"""Robots: specifications, kinematics, and the map between 7-D actions and joints."""

import os

# MuJoCo picks its GL library from the environment when it is first imported, which is for kinematics, long
# before anything is rendered; its own default needs a display.
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

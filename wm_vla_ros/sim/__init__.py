"""A table-top world in MuJoCo: scene, tasks with success predicates, scripted expert and play."""

import os

# MuJoCo picks its GL library from the environment, and its own default needs a display.
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

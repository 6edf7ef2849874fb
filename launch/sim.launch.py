"""ros2 launch wm_vla_ros sim.launch.py: one arm in MuJoCo with both loops, as bringup/stack.py describes."""

from wm_vla_ros.bringup.launch import describe


def generate_launch_description():
    """Called by `ros2 launch`."""
    return describe("sim")

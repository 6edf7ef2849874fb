"""The one way to open a slow policy by what a user calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wm_vla_ros.vla.policy import SlowPolicy
from wm_vla_ros.vla.video_policy import VideoPolicy
from wm_vla_ros.world_models.video_files import MODES

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec

Policy = SlowPolicy | VideoPolicy


def open_policy(
    name: str,
    device: str = "cpu",
    robot: RobotSpec | None = None,
    cameras: Sequence[str] | None = None,
) -> Policy:
    """A LeRobot policy (`SlowPolicy`), or "sequence:MODEL" and "subgoal:MODEL" of a `video` world model.

    Raises PolicyRefused, a ValueError, for what is neither, or does not fit robot and cameras.
    """
    mode, colon, model = name.partition(":")
    if colon and mode in MODES:
        return VideoPolicy(mode, model, robot, cameras)
    return SlowPolicy(name, device=device, robot=robot, cameras=cameras)

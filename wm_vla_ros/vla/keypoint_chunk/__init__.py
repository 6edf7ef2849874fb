"""A small language-conditioned chunk policy; importing this package registers it with LeRobot.

LeRobot finds the parts by file name: configuration_*, modeling_*, processor_*.
"""

from wm_vla_ros.vla.keypoint_chunk.configuration_keypoint_chunk import KeypointChunkConfig

__all__ = ["KeypointChunkConfig"]

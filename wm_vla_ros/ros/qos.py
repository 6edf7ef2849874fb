"""Quality of service by purpose. Both ends of a topic take the same profile, so they always match."""

from __future__ import annotations

from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )


# Goals, chunks, plans as they are sent: only the newest has a meaning.
LATEST = _profile(1)
# Plans as the driver hears them. A queue of one is shared by all writers: a second planner's plans would push
# the owner's out of it, unheard, and the silent owner would lose the arm. Times tell old plans from new.
HEARD_PLANS = _profile(20)
# Plans as a recorder hears them: none may be lost while it is busy, where the driver wants the newest alone.
EVERY_PLAN = _profile(200)
# Joint states: the newest few, enough to find the one that belongs to an image.
STATE = _profile(10)
# Applied actions are replayed by the belief, where a lost one is a wrong prediction.
HISTORY = _profile(50)
# Images: newest frame only. Reliable, because best effort loses most of a fragmented frame.
IMAGE = _profile(1)
# Scene, robot description: late joiners get the last one.
LATCHED = _profile(1, latched=True)
# Faults: none may be lost, and a late joiner sees the recent ones.
FAULTS = _profile(100, latched=True)
# Loop statistics, diagnostics: for people and recorders.
REPORT = _profile(10)
# /clock: as rclpy subscribes to it.
CLOCK = _profile(1, reliable=False)

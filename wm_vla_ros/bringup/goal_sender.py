"""A latent goal given to a running stack from outside, and what its planner makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.publisher import Publisher

from wm_vla_msgs import msg as wm
from wm_vla_ros.bringup.client import StackClient
from wm_vla_ros.bringup.stack import FAST
from wm_vla_ros.clock import Clock, MonotonicClock
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.types import LatentGoal

_POLL = 0.05
# Seconds to find a planner in, on a graph that has one.
_DISCOVERY = 10.0


@dataclass(frozen=True, slots=True)
class Followed:
    """plans: ticks that planned towards the goal. imagined: (3,) m, where the last sees the tip end."""

    plans: int
    imagined: NDArray[np.float32] | None


def follow_goal(
    client: StackClient,
    make_goal: Callable[[float], LatentGoal],
    seconds: float,
    until: Callable[[NDArray[np.float32]], bool] = lambda imagined: False,
    clock: Clock | None = None,
) -> Followed:
    """Publish a goal, wait while it is followed, and withdraw it.

    make_goal: of the time, s, at which it is given. until: of the imagined tip (3,) m, ends the wait. Raises
    TimeoutError when no planner listens to goals.
    """
    clock, stamps = clock or MonotonicClock(), StampConverter()
    publisher = client.node.create_publisher(wm.LatentGoal, "latent_goal", qos.LATEST)
    plans, newest = 0, None

    def heard(message: wm.LoopStats) -> None:
        nonlocal plans, newest
        stats = convert.stats_from_msg(message, stamps)
        if stats.stamp >= given and stats.iterations > 0 and len(stats.imagined_tip):
            plans, newest = plans + 1, stats.imagined_tip[-1]

    deadline = clock.now() + _DISCOVERY
    while not _heard_by_the_planner(client, publisher):
        if clock.now() > deadline:
            raise TimeoutError(
                f"no {FAST} listens to {publisher.topic_name}: is a stack up in this namespace?"
            )
        clock.sleep_until(clock.now() + _POLL)
    given = clock.now()
    client.listen(wm.LoopStats, "loop_stats", qos.REPORT, heard)
    goal = make_goal(given)
    publisher.publish(convert.goal_to_msg(goal, stamps))
    try:
        while clock.now() < given + seconds and not (newest is not None and until(newest)):
            clock.sleep_until(clock.now() + _POLL)
    finally:
        publisher.publish(convert.withdrawal(goal.instruction, clock.now(), stamps))
    return Followed(plans, newest)


def _heard_by_the_planner(client: StackClient, publisher: Publisher) -> bool:
    """Whether all that listen are connected, and the planner is among them: a recorder is found as soon."""
    listeners = client.node.get_subscriptions_info_by_topic(publisher.topic_name)
    planner = any(listener.node_name == FAST for listener in listeners)
    return planner and publisher.get_subscription_count() >= len(listeners)

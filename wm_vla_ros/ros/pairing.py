"""Two topics whose messages belong together when their stamps are equal."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from wm_vla_ros.ros.time import stamp_key


class Pairing:
    """Joins two streams by stamp; the messages of a pair arrive in any order.

    waiting: messages of each side that wait for their counterpart. It has to be more than the queues hold:
    on a busy machine one topic may be at the end of its queue while the other one is at its front.
    """

    def __init__(self, waiting: int = 24) -> None:
        self._waiting = waiting
        self._sides: tuple[OrderedDict[int, Any], OrderedDict[int, Any]] = (OrderedDict(), OrderedDict())

    def first(self, message: Any) -> tuple[Any, Any] | None:
        """Take a message of the first topic. Returns the pair (first, second) when it is complete."""
        return self._add(message, 0)

    def second(self, message: Any) -> tuple[Any, Any] | None:
        """Take a message of the second topic, as `first`."""
        return self._add(message, 1)

    def _add(self, message: Any, side: int) -> tuple[Any, Any] | None:
        key = stamp_key(message.header.stamp)
        other = self._sides[1 - side].pop(key, None)
        if other is not None:
            return (message, other) if side == 0 else (other, message)
        own = self._sides[side]
        own[key] = message
        while len(own) > self._waiting:
            own.popitem(last=False)
        return None

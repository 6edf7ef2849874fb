"""A dataclass field that may become a node's parameter: default, description and bounds, without ROS.

What a library class and a node both offer is declared once, in a dataclass that both derive from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def setting(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    live: bool = False,
) -> Any:
    """A dataclass field that `ros.params` declares as a ROS parameter.

    low, high: bounds, inclusive. choices: the valid strings, when there are few. live: may change while
    running.
    """
    metadata = {"description": description, "low": low, "high": high, "choices": tuple(choices), "live": live}
    return field(default=default, metadata=metadata)

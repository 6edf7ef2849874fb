"""Services that do one thing and say how it went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_srvs.srv import Trigger


def create_trigger(node: Node, name: str, work: Callable[[], str]) -> None:
    """A std_srvs/Trigger service: its message is what `work` returns, or why it raised ValueError."""

    def answer(_request: Any, response: Any) -> Any:
        try:
            response.message = work()
            response.success = True
        except ValueError as error:
            response.message = str(error)
        except TimeoutError:
            response.message = "the control thread does not answer"
        return response

    node.create_service(Trigger, name, answer)

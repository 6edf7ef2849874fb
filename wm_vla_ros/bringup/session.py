"""A whole stack for the length of a `with` block: started, active, and ended however the block ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wm_vla_ros.bringup.runner import StackRunner
from wm_vla_ros.bringup.stack import StackSpec

if TYPE_CHECKING:
    from wm_vla_ros.bringup.client import StackClient

# Domains that every Linux has the ports for (rmw: 0 to 101); 0 is where everybody else is.
_DOMAINS = 100
_START_TIMEOUT = 300.0
_COMPLAINTS = ("[ERROR]", "[FATAL]")


def keep_to_ourselves() -> int:
    """Have this process and its children talk on a domain of their own, on this machine only.

    What the user's environment sets already is left alone. Returns the domain.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % _DOMAINS))
    return int(os.environ["ROS_DOMAIN_ID"])


class StackRefused(ValueError):
    """A stack that does not come up or stay up; the text holds what its nodes complained of."""


@contextmanager
def running(stack: StackSpec, log: Callable[[str], None]) -> Iterator[tuple[StackRunner, StackClient]]:
    """Start `stack`, wait until every node is active, and hand out its runner and a client.

    Raises StackRefused naming the nodes that did not come up, or stopped answering, and what they said.
    """
    from wm_vla_ros.bringup.client import StackClient

    complaints: list[str] = []

    def listen(line: str) -> None:
        if any(mark in line for mark in _COMPLAINTS):
            complaints.append(line)
        log(line)

    with StackRunner(stack, listen) as runner, StackClient(stack.namespace) as client:
        died: list[str] = []

        def alive() -> bool:
            died.extend(ended.text for ended in runner.poll() if not ended.restarted)
            return not died

        try:
            client.wait_until_active([node.name for node in stack.nodes], _START_TIMEOUT, alive)
            yield runner, client
        except TimeoutError as error:
            alive()
            what = "\n".join([f"the stack does not answer: {'; '.join(died) or error}", *complaints[-8:]])
            raise StackRefused(what) from error

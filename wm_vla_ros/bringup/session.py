"""A whole stack for the length of a `with` block: started, active, and ended however the block ends."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wm_vla_ros.bringup.runner import Command, StackRunner, command_line
from wm_vla_ros.bringup.stack import StackSpec

if TYPE_CHECKING:
    from wm_vla_ros.bringup.client import StackClient

# Domains that every Linux has the ports for (rmw: 0 to 101); 0 is where everybody else is.
_DOMAINS = 100
START_TIMEOUT = 300.0  # s; on a busy machine a slow policy's libraries take their time
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
def running(
    stack: StackSpec, log: Callable[[str], None], command: Command = command_line
) -> Iterator[tuple[StackRunner, StackClient]]:
    """Start `stack`, wait until every node is active, and hand out its runner and a client.

    command: as in `StackRunner`. Raises StackRefused naming the nodes that did not come up, or stopped
    answering, and their last complaints, or last lines where they made none; also for a TimeoutError that
    ends the block.
    """
    from wm_vla_ros.bringup.client import StackClient

    complaints: deque[str] = deque(maxlen=8)
    lines: deque[str] = deque(maxlen=8)

    def listen(line: str) -> None:
        if any(mark in line for mark in _COMPLAINTS):
            complaints.append(line)
        lines.append(line)
        log(line)

    with StackRunner(stack, listen, command=command) as runner, StackClient(stack.namespace) as client:
        died: list[str] = []

        def alive() -> bool:
            died.extend(ended.text for ended in runner.poll() if not ended.restarted)
            return not died

        try:
            client.wait_until_active([node.name for node in stack.nodes], START_TIMEOUT, alive)
            yield runner, client
        except TimeoutError as error:
            alive()
            cause = f"the stack does not answer: {'; '.join(died) or error}"
            what = "\n".join([cause, *(complaints or lines)])
            raise StackRefused(what) from error

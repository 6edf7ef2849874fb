"""`wm-vla up`: run a stack on a machine that has no `ros2 launch`."""

from __future__ import annotations

import signal
import sys
from typing import Any

import typer

from wm_vla_ros.bringup.options import NAMESPACE, with_stack_options
from wm_vla_ros.bringup.stack import KINDS, StackKind, stack_kind

app = typer.Typer(
    help="Run a stack until Ctrl-C. A node that dies is reported by name.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Keep `wm-vla up sim` a group of stacks, however many there are."""


def _runs(kind: StackKind) -> Any:
    def up(namespace: NAMESPACE = "", **chosen: Any) -> None:
        from wm_vla_ros.bringup.runner import StackRunner

        # Not an Event: a handler runs between any two steps of the thread that waits, also while that
        # thread holds the event's lock, and would then wait for itself for ever.
        received: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: received.append(number))
        with StackRunner(kind.build(namespace, **chosen), _print_line) as runner:
            code = runner.run(lambda: received)
        raise typer.Exit(code)

    return with_stack_options(up, kind)


def _print_line(line: str) -> None:
    # One write per line: several threads print, and a line must stay whole.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


for _name in KINDS:
    _kind = stack_kind(_name)
    app.command(_name, help=_kind.description)(_runs(_kind))

"""`wm-vla eval`: what the trained stack can do, with its uncertainty."""

from __future__ import annotations

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.report import emit

app = typer.Typer(help="Measure tasks and models.", no_args_is_help=True)


@app.command("tasks")
def tasks(json: JsonFlag = False) -> None:
    """Run a task over seeds that no training saw."""
    from wm_vla_ros.evaluation.closed_loop import evaluate

    emit(evaluate(), json)


@app.command("imagination")
def imagination(json: JsonFlag = False) -> None:
    """Imagination error of the world model on held-out episodes, against persistence."""
    from wm_vla_ros.evaluation.imagination import evaluate

    emit(evaluate(), json)

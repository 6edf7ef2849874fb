"""`wm-vla bench`: speed and regularity, each beside a baseline of the same run."""

from __future__ import annotations

import typer

from wm_vla_ros.commands.bench import planning, running

app = typer.Typer(help="Measure speed and regularity.", no_args_is_help=True)
app.command("loop")(running.loop_with_stack)
app.command("plan")(planning.plan)
app.command("delay")(planning.delay)
app.command("transport")(running.transport)
app.command("policy")(running.slow_policy)

"""`wm-vla faults`: the fault campaign against the real safety gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults
from wm_vla_ros.report import emit

if TYPE_CHECKING:
    from wm_vla_ros.faults.campaign import CaseResult


def command(
    cases: Annotated[str, typer.Option(help='Numbers and ranges, "1-15,36". Default: every case.')] = "",
    runs: Annotated[int, typer.Option(min=1, help="Seeded runs of each case.")] = 100,
    robot: Annotated[
        str, typer.Option(help="Whose kinematics the motion cases run on, too.")
    ] = defaults().robot,
    graph_runs: Annotated[
        int, typer.Option(min=0, help="Runs of each case on the running stack; 0 for none.")
    ] = 20,
    verbose: Annotated[bool, typer.Option(help="Show what the stack's nodes say, on stderr.")] = False,
    json: JsonFlag = False,
) -> None:
    """Inject faults into the driver and judge every command it writes.

    Exits with 1 when a case did not pass. Cases that kill or stop a process also do it to the running
    stack, in the middle of a motion; 25 and 26 load it, and run there alone.
    """
    from wm_vla_ros.bringup.session import StackRefused, keep_to_ourselves
    from wm_vla_ros.faults import campaign
    from wm_vla_ros.progress import bar

    numbers = campaign.parse_cases(cases) if cases else campaign.VALID_CASES
    if cases and not graph_runs and set(numbers) & set(campaign.STACK_CASES):
        raise ValueError(f"cases {cases}: 25 and 26 run on the stack, --graph-runs must be at least 1")
    keep_to_ourselves()
    results: list[CaseResult] = []
    with bar("faults", campaign.steps(numbers, graph_runs)) as update:
        try:
            for result in campaign.run_all(
                numbers, runs, robot, graph_runs, log=_to_stderr if verbose else _drop
            ):
                results.append(result)
                update(len(results), note=f"case {result.number} ({result.where})")
        except StackRefused as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
    if not json:
        _print_table(results)
    chosen = {"runs": runs, "robot": robot, "graph_runs": graph_runs}
    emit(campaign.summarise(results, chosen, with_cases=json), json)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)


def _drop(line: str) -> None:
    """The stack's last lines are part of the error when it fails."""


def _print_table(results: list[CaseResult]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="fault campaign", title_justify="left")
    for column in ("case", "where", "inject", "expected"):
        table.add_column(column, overflow="fold")
    for column in ("runs", "violations", "HOLD max ms", "passed"):
        table.add_column(column, justify="right")
    for result in results:
        hold = "" if result.hold_max_ms is None else f"{result.hold_max_ms:.1f}"
        verdict = Text("yes", "green") if result.passed else Text("NO", "red bold")
        table.add_row(
            str(result.number),
            result.where,
            result.inject,
            result.expected,
            str(result.runs),
            str(result.violations),
            hold,
            verdict,
        )
    console = Console()
    console.print(table)
    for result in results:
        for example in result.examples:
            console.print(f"case {result.number} ({result.where}): {example}", style="red")

"""`wm-vla doctor`: what this machine has and lacks."""

from __future__ import annotations

from dataclasses import asdict

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.machine import Finding, FindingState, survey
from wm_vla_ros.report import Figure, Report, conditions, emit

_STYLES = {FindingState.OK: "green", FindingState.NOTE: "yellow", FindingState.LACK: "red"}


def command(json: JsonFlag = False) -> None:
    """Show what this machine has and lacks, and the command that mends each lack.

    Exits with 1 when something is lacking that nothing runs without.
    """
    findings = survey()
    if json:
        emit(as_report(findings), True)
    else:
        _print_table(findings)
    if any(finding.required and finding.state is FindingState.LACK for finding in findings):
        raise typer.Exit(1)


def as_report(findings: tuple[Finding, ...]) -> Report:
    """One figure per finding, its state; the words are in conditions.findings."""
    figures = [
        Figure(f"doctor.{finding.name.replace(' ', '_')}", finding.state.value) for finding in findings
    ]
    words = {finding.name: asdict(finding) for finding in findings}
    return Report("doctor", conditions() | {"findings": words}, tuple(figures))


def _print_table(findings: tuple[Finding, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="this machine", title_justify="left")
    for column in ("", "what", "found", "to mend it"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        lacking = finding.required and finding.state is FindingState.LACK
        state = Text(f"{finding.state}{' (required)' if lacking else ''}", _STYLES[finding.state])
        table.add_row(state, finding.name, Text(finding.found), Text(finding.mend))
    Console().print(table)

"""`wm-vla doctor`: what this machine has and lacks."""

from __future__ import annotations

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.report import Figure, Report, conditions, emit


def command(json: JsonFlag = False) -> None:
    """Show what this machine has and lacks, and the command that mends each lack."""
    emit(Report("doctor", conditions(), (Figure("python", True),)), json)

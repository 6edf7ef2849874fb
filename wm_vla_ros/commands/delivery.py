"""What the commands that judge world models hand over: a report, its picture, and both as a page."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wm_vla_ros.report import Report

WorldModelsFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--world-model", help="World model: name in models/ or folder. May be given more than once."
    ),
]
DataFlag = Annotated[Path | None, typer.Option(help="Held-out data set; without it, episodes are recorded.")]
EpisodesFlag = Annotated[
    int, typer.Option(min=2, max=1000, help="Episodes to record each of reach, push and play.")
]
PngFlag = Annotated[Path | None, typer.Option(help="Write a plot here.")]
HtmlFlag = Annotated[Path | None, typer.Option(help="Write one self-contained page with everything here.")]


def deliver(
    report: Report,
    draw: Callable[[Any], None],
    png: Path | None,
    html: Path | None,
    json: bool,
    show: Callable[[Report, bool], None] | None = None,
) -> None:
    """Print `report` (show: how), and write what was asked for. draw: writes the PNG into a file."""
    from wm_vla_ros.report import emit

    if png is not None or html is not None:
        picture = BytesIO()
        draw(picture)
        if png is not None:
            png.parent.mkdir(parents=True, exist_ok=True)
            png.write_bytes(picture.getvalue())
        if html is not None:
            from wm_vla_ros.lab.html_page import write_html

            write_html(html, report, {report.command: picture.getvalue()})
    (show or emit)(report, json)

"""A report as it was asked for: printed, its plot as a PNG, both as one HTML page that loads nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from wm_vla_ros.report import Report, as_object, emit, print_table

# Writes the plot that belongs to a report, as a PNG.
Draw = Callable[[Path | BinaryIO], None]

_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}"
    "td.number{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}"
)


def deliver(
    report: Report,
    draw: Draw,
    png: Path | None,
    html: Path | None,
    json: bool,
    show: Callable[[Report], None] = print_table,
) -> None:
    """Print `report` (for people: by `show`), and write the files that were asked for."""
    if png is not None or html is not None:
        picture = BytesIO()
        draw(picture)
        if png is not None:
            png.parent.mkdir(parents=True, exist_ok=True)
            png.write_bytes(picture.getvalue())
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(html_page(report, picture.getvalue()), encoding="utf-8")
    emit(report, json, show)


def html_page(report: Report, png: bytes) -> str:
    """The page: plot, figures and conditions of a report."""
    plain, title = as_object(report), escape(report.command)
    figures = "\n".join(
        f"<tr><td>{escape(figure['name'])}</td>{_number(figure['value'])}<td>{escape(figure['unit'])}</td>"
        f"<td class=number>{'' if figure['n'] is None else figure['n']}</td>"
        f"{_number(figure['low'], '')}{_number(figure['high'], '')}</tr>"
        for figure in plain["figures"]
    )
    conditions = "\n".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in plain["conditions"].items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n<h1>wm-vla {title}</h1>\n"
        f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">\n'
        "<h2>Figures</h2>\n<table><tr><th>figure<th>value<th>unit<th>n<th colspan=2>95 % interval</tr>\n"
        f"{figures}\n</table>\n<h2>Conditions</h2>\n<table>\n{conditions}\n</table>\n</body></html>\n"
    )


def _number(value: object, missing: str = "not measured") -> str:
    text = missing if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td class=number>{escape(text)}</td>"

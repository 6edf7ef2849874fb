"""A report as one HTML page: table, conditions and pictures in one file that loads nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

from wm_vla_ros.report import Report, as_object

_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}"
    "td.number{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}"
)


def write_html(path: Path, report: Report, pictures: Mapping[str, bytes]) -> None:
    """Write `report` and its pictures (title -> PNG) to `path`, making its folder."""
    plain = as_object(report)
    rows = "\n".join(
        f"<tr><td>{escape(figure['name'])}</td>{_number(figure['value'])}<td>{escape(figure['unit'])}</td>"
        f"<td class=number>{'' if figure['n'] is None else figure['n']}</td>"
        f"{_number(figure['low'], '')}{_number(figure['high'], '')}</tr>"
        for figure in plain["figures"]
    )
    conditions = "\n".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in plain["conditions"].items()
    )
    images = "\n".join(
        f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
        for title, png in pictures.items()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(report.command)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>wm-vla {escape(report.command)}</h1>\n{images}\n"
        "<h2>Figures</h2>\n<table><tr><th>figure<th>value<th>unit<th>n<th colspan=2>95 % interval</tr>\n"
        f"{rows}\n</table>\n<h2>Conditions</h2>\n<table>\n{conditions}\n</table>\n</body></html>\n",
        encoding="utf-8",
    )


def _number(value: object, missing: str = "not measured") -> str:
    text = missing if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td class=number>{escape(text)}</td>"

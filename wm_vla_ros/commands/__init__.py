"""One file per command of `wm-vla`: a function `command`, or a typer group `app`.

A file here is imported to print help, so it imports nothing heavy at its top.
"""

from __future__ import annotations

from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

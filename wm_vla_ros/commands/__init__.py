"""One file per command of `wm-vla`: a function `command`, or a typer group `app`. Here: options of several.

A file here is imported to print help, so it imports nothing heavy at its top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
PngOption = Annotated[Path | None, typer.Option(help="Write a plot here.")]
HtmlOption = Annotated[Path | None, typer.Option(help="Write one self-contained page with everything here.")]

RobotOption = Annotated[str, typer.Option(help="Robot of config/robots.")]
PolicyOption = Annotated[str, typer.Option(help="LeRobot policy: name in models/, folder, or hub id.")]
WorldModelOption = Annotated[str, typer.Option(help="World model: name in models/ or folder.")]
WorldModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--world-model", help="World model: name in models/ or folder. May be given more than once."
    ),
]

SeedsOption = Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")]
TasksOption = Annotated[str, typer.Option(help="Comma list of reach, push.")]
LatencyOption = Annotated[float, typer.Option(min=0.0, max=10.0, help="Seconds that an inference takes.")]
WorkersOption = Annotated[int, typer.Option(min=1, max=64, help="Processes.")]

HeldOutOption = Annotated[
    Path | None, typer.Option(help="Held-out data set; without it, episodes are recorded.")
]
EpisodesOption = Annotated[
    int, typer.Option(min=2, max=1000, help="Episodes to record each of reach, push and play.")
]
DemonstrationsOption = Annotated[
    Path, typer.Option("--dataset", help="LeRobotDataset folder with demonstrations.")
]
TimesOption = Annotated[int, typer.Option(help="Imagined episodes for each recorded one.")]

"""`wm-vla models`: which world models there are, what they say of themselves, and which one to take."""

from __future__ import annotations

from typing import Annotated

import typer

from wm_vla_ros.commands import (
    EpisodesOption,
    HeldOutOption,
    HtmlOption,
    JsonFlag,
    PngOption,
    PolicyOption,
    SeedsOption,
    WorldModelsOption,
)
from wm_vla_ros.config import defaults
from wm_vla_ros.delivery import deliver
from wm_vla_ros.progress import bar
from wm_vla_ros.report import Figure, Report, emit

_DEFAULTS = defaults()
app = typer.Typer(help="World models: list, show, compare.", no_args_is_help=True)


@app.command("list")
def list_models(json: JsonFlag = False) -> None:
    """The world models in models/, and whether the planner can use them: each plans once."""
    from wm_vla_ros.lab.model_facts import listing
    from wm_vla_ros.world_models import available

    emit(listing(available()), json, _print_list)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name in models/ or folder.")],
    json: JsonFlag = False,
) -> None:
    """A world model's manifest, and what its training measured."""
    from wm_vla_ros.lab.model_facts import shown

    emit(shown(name), json)


@app.command("compare")
def compare(
    world_model: WorldModelsOption = None,
    tasks: Annotated[str, typer.Option(help="Comma list of reach, push; or none.")] = "reach,push",
    seeds: SeedsOption = "1000:1100",
    policy: PolicyOption = _DEFAULTS.policy,
    data: HeldOutOption = None,
    episodes: EpisodesOption = 12,
    windows: Annotated[int, typer.Option(min=10, help="Windows of imagination to judge.")] = 2000,
    plans: Annotated[int, typer.Option(min=20, max=100_000, help="Plans that are timed.")] = 500,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, for the closed loop.")] = 2,
    quick: Annotated[
        bool, typer.Option(help="For CI: two reaches, few episodes and plans, whatever else is chosen.")
    ] = False,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """World models side by side: imagination, probes, plan time, size, training time, and success.

    Without --world-model: all in models/. All see the same episodes and drive under the same slow policy.
    """
    from wm_vla_ros.lab.model_comparison import Comparison
    from wm_vla_ros.lab.model_comparison import compare as measure
    from wm_vla_ros.rig.closed_loop import parse_seeds
    from wm_vla_ros.world_models import available

    if quick:
        tasks, seeds, episodes, windows, plans, workers = "reach", "1000:1002", 2, 100, 20, 1
    what = Comparison(
        policy=policy,
        tasks=() if tasks == "none" else tuple(tasks.split(",")),
        seeds=parse_seeds(seeds),
        episodes=episodes,
        windows=windows,
        plans=plans,
        workers=workers,
        data=data,
    )
    with bar("comparing", 1.0) as progress:
        report, draw = measure(world_model or available(), what, progress)
    deliver(report, draw, png, html, json, _print_comparison)


def _print_list(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="world models", title_justify="left")
    for column in ("name", "family", "robot", "MB", "latent", "data", "plan-ready"):
        table.add_column(column, overflow="fold")
    for row in report.conditions["models"]:
        texts = [row["name"], row["family"], row["robot"], row["size_mb"], row["latent_dim"]]
        ready = "yes" if row["plan_ready"] else f"no: {row['refused']}"
        cells = ["" if text is None else str(text) for text in (*texts, ", ".join(row["data"]), ready)]
        table.add_row(*cells)
    Console().print(table)


def _print_comparison(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from wm_vla_ros.lab.model_comparison import side_by_side

    labels, rows = side_by_side(report)
    table = Table(title=report.command, title_justify="left")
    table.add_column("figure", overflow="fold")
    for label in labels:
        table.add_column(label, justify="right")
    for name, figures in rows:
        table.add_row(name, *(_cell(figure) for figure in figures))
    console = Console()
    console.print(table)
    told = {key: value for key, value in report.conditions.items() if value not in ({}, [])}
    console.print(", ".join(f"{key}: {value}" for key, value in told.items()), style="dim")


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value != figure.value:
        return "not measured"
    value = f"{figure.value:.4g}" if isinstance(figure.value, float) else str(figure.value)
    text = f"{value} {figure.unit}".rstrip()
    return text if figure.low is None else f"{text} ({figure.low:.3g} .. {figure.high:.3g})"

"""`wm-vla lab`: small worlds to learn world models in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.progress import bar
from wm_vla_ros.report import emit

app = typer.Typer(help="Small worlds in which a world model can be seen whole.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `pendulum` a word of its own: typer would take a single command for the group."""


@app.command("pendulum")
def pendulum(
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, experience and training.")] = 0,
    episodes: Annotated[
        int, typer.Option(min=1, max=1000, help="Real episodes that are seen, the first 5 of them random.")
    ] = 20,
    updates: Annotated[
        int, typer.Option(min=1, max=100_000, help="Training steps after each real episode.")
    ] = 100,
    latent: Annotated[str, typer.Option(help="gaussian or categorical.")] = "gaussian",
    quick: Annotated[
        bool, typer.Option(help="For CI: a minute or so, with episodes and updates of its own.")
    ] = False,
    png: Annotated[Path, typer.Option(help="Write the picture here.")] = Path("outputs/pendulum.png"),
    json: JsonFlag = False,
) -> None:
    """An RSSM learns Gymnasium's Pendulum-v1, and an agent, in its dreams alone, to swing up the real one.

    Reports how well observations are reconstructed, for how long a dream holds beside the truth, and the
    agent's return over 20 starts that it never saw.
    """
    from wm_vla_ros.lab.pendulum import run, settings_of

    settings = settings_of(seed, episodes, updates, latent, quick)
    with bar("pendulum", 1.0) as update:
        report = run(settings, png, update)
    emit(report, json)

"""Progress bars on stderr, so that stdout stays one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(text: str, total: float) -> Iterator[Callable[..., None]]:
    """A progress bar; call what it yields with the amount done, and optionally a `note` to show beside it.

    Shows nothing but a last line where stderr is not a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(text, total=total, note="")

        def update(done: float, note: str | None = None) -> None:
            progress.update(task, completed=done, **({} if note is None else {"note": note}))

        yield update

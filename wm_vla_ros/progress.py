"""Progress bars on stderr, so that stdout stays one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Share of the work after which a line is printed where there is no terminal to draw a bar on.
_LINE_EVERY = 0.05


@contextmanager
def bar(text: str, total: float) -> Iterator[Callable[..., None]]:
    """A progress bar; call what it yields with the amount done, and optionally a `note` to show beside it.

    Where stderr is not a terminal, a line at every twentieth of the work instead.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(text, total, console.print)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(text, total=total, note="")

        def update(done: float, note: str | None = None) -> None:
            progress.update(task, completed=done, **({} if note is None else {"note": note}))

        yield update


class _Lines:
    """Prints a line now and then."""

    def __init__(self, text: str, total: float, write: Callable[[str], object]) -> None:
        self._text, self._total, self._write = text, total, write
        self._next = 0.0

    def __call__(self, done: float, note: str = "") -> None:
        share = done / self._total
        if share >= self._next or done >= self._total:
            self._next = share + _LINE_EVERY
            self._write(f"{self._text}: {share:.0%} {note}".rstrip())

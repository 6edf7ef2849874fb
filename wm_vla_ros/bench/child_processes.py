"""Modules of this package run as processes for the length of a block: what loads or watches a machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


@contextmanager
def children(
    commands: Sequence[Sequence[str]], ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """`python -m` for each of `commands`, from when each has printed the line `ready`; killed at the end.

    Their start-up is over before the block begins, so that nothing is measured beside it. Enter it from the
    main thread: a child may end with the thread that started it. Raises RuntimeError with the last words of
    one that does not start.
    """
    started: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for process in started:
            if process.stdout is None or process.stdout.readline() != ready + "\n":
                process.kill()
                last_words = process.communicate()[1].strip()[-500:]
                raise RuntimeError(f"{' '.join(process.args[2:])} did not start: {last_words}")  # type: ignore[index]
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()

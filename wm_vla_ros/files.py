"""Files that are there whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import os
from pathlib import Path

# Of a file that is being written; what is left of one belongs to nobody.
PARTIAL = ".partial"


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`: to a file beside it, to the disk, and then under its name.

    A reader, and whoever comes after a crash, finds what was there before or all of `content`.
    """
    partial = path.with_name(path.name + PARTIAL)
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

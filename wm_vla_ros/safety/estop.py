"""The e-stop latch: one press stops the arm until somebody resets it, across a restart of the driver."""

from __future__ import annotations

import json
import os
from pathlib import Path


class LatchStoreError(RuntimeError):
    """The latch could not be written to its file, or the file could not be read back."""


class EStop:
    """Latched or not, and why.

    path: file that keeps the latch across restarts, or None for no memory (simulation in one process).
    The file exists while latched. One that cannot be read counts as latched: an unknown state is not a
    safe one. Written by the thread that presses, read by the tick: `latched` is a single reference, so it
    needs no lock, and it is set before the file is touched.
    """

    def __init__(self, path: Path | None = None, latched: bool = False) -> None:
        self._path = path
        self._pressed: set[str] = set()
        self._reason: str | None = "started latched" if latched else None
        if path is not None and path.exists():
            self._reason = f"latched before the driver was started: {_stored_reason(path)}"

    @property
    def latched(self) -> bool:
        return self._reason is not None

    @property
    def reason(self) -> str:
        """Who latched it and why, for people; empty when not latched."""
        return self._reason or ""

    def latch(self, source: str, text: str) -> None:
        """Latch now. The first cause is kept. Raises LatchStoreError when it will not survive a restart."""
        if self._reason is None:
            self._reason = f"{source}: {text}"
        self._store()

    def set_input(self, source: str, pressed: bool) -> None:
        """Follow a button: pressing latches, releasing alone changes nothing but lets `reset` succeed."""
        if not pressed:
            self._pressed.discard(source)
            return
        self._pressed.add(source)
        self.latch(source, "pressed")

    def reset(self) -> None:
        """Unlatch. Raises ValueError while a button is still pressed, LatchStoreError as `latch`."""
        if self._pressed:
            raise ValueError(f"still pressed: {', '.join(sorted(self._pressed))}")
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
                _sync(self._path.parent)
            except OSError as error:
                raise LatchStoreError(f"{self._path}: {error}") from error
        self._reason = None

    def _store(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_suffix(".partial")
            with partial.open("w") as file:
                json.dump({"reason": self._reason}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
            _sync(self._path.parent)
        except OSError as error:
            raise LatchStoreError(f"{self._path}: {error}") from error


def default_latch_file(robot: str) -> Path:
    """Where a robot's latch is kept: $XDG_STATE_HOME, or ~/.local/state. `robot`: one path component.

    Raises ValueError when it is not one.
    """
    if robot in ("", ".", "..") or robot != Path(robot).name:
        raise ValueError(f"a robot's name must be one path component, got {robot!r}")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "wm_vla_ros" / f"{robot}.estop"


def _stored_reason(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["reason"])[:200]
    except (OSError, ValueError, KeyError, TypeError):
        return "cause not readable"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

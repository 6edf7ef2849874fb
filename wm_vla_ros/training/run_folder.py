"""The folder of one training run: what was asked, how it went, and where to go on from.

config.json, with the seed   written once, before anything else
metrics.jsonl                one line per step
tensorboard/                 the same, every few steps
checkpoints/                 the newest two
report.json                  written last: a run that has one is finished
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from wm_vla_ros.files import write_whole
from wm_vla_ros.training.checkpoints import Checkpoint, Checkpoints
from wm_vla_ros.world_models.manifest import ModelRefused

SUFFIX = ".run"
CONFIG_FILE, METRICS_FILE, REPORT_FILE, LOCK_FILE = "config.json", "metrics.jsonl", "report.json", ".lock"
# Steps between two points of TensorBoard's curves.
_EVERY = 10

Entry = dict[str, float | str]


class RunFolder:
    """Written by one process at a time. Use as a context manager.

    every: steps from one checkpoint to the next. config: the contents of config.json.
    """

    def __init__(self, path: Path, config: dict[str, Any], every: int, writes: bool = True) -> None:
        """writes: False in the processes that only take part.

        Raises ModelRefused while another process writes here.
        """
        self.path, self.config, self.every, self.writes = path, config, every, writes
        self.checkpoints = Checkpoints(path / "checkpoints")
        self._metrics: TextIO | None = None
        self._board: Any = None
        self._lock: TextIO | None = None
        if not writes:
            return
        self._lock = open(path / LOCK_FILE, "w", encoding="utf-8")  # noqa: SIM115, held as long as the run
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelRefused(f"{path}: expected a run that stands still, found a process at it") from error

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], every: int, writes: bool = True) -> RunFolder:
        """A new one. Raises FileExistsError when there is one."""
        if writes:
            if (path / CONFIG_FILE).exists():
                raise FileExistsError(f"{path} holds a run already: go on with --resume {path}, or remove it")
            path.mkdir(parents=True, exist_ok=True)
            write_whole(path / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
        return cls(path, config, every, writes)

    @staticmethod
    def read_config(path: Path) -> dict[str, Any]:
        """config.json of a run that is not finished. Raises ModelRefused."""
        if not (path / CONFIG_FILE).is_file():
            raise ModelRefused(f"{path}: expected a run with {CONFIG_FILE}, found none")
        if (path / REPORT_FILE).exists():
            raise ModelRefused(f"{path}: expected a run to go on with, found one that is finished")
        try:
            return dict(json.loads((path / CONFIG_FILE).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ModelRefused(f"{path / CONFIG_FILE}: expected a JSON object, found {error}") from error

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._metrics, self._board, self._lock):
            if each is not None:
                each.close()

    def newest(self) -> tuple[Checkpoint | None, list[Entry], list[str]]:
        """Where to go on from, the metrics until then, and why newer checkpoints are not used.

        What was written after that checkpoint is cut off. Raises ModelRefused when no checkpoint is sound, or
        the metrics are shorter than they were.
        """
        checkpoint, refused = self.checkpoints.newest()
        path = self.path / METRICS_FILE
        size = checkpoint.state["metrics_bytes"] if checkpoint else 0
        content = path.read_bytes() if path.exists() else b""
        if len(content) < size:
            raise ModelRefused(f"{path}: expected {size} bytes or more, found {len(content)}")
        if self.writes and path.exists():
            with open(path, "r+b") as file:
                file.truncate(size)
        entries = [json.loads(line) for line in content[:size].splitlines()]
        return checkpoint, [{k: v for k, v in entry.items() if k != "step"} for entry in entries], refused

    def record(self, step: int, entry: Entry) -> None:
        """One line of metrics: the terms of step number `step`, which counts from 1."""
        if not self.writes:
            return
        if self._metrics is None:
            from torch.utils.tensorboard import SummaryWriter

            self._metrics = open(self.path / METRICS_FILE, "a", encoding="utf-8")  # noqa: SIM115
            self._board = SummaryWriter(self.path / "tensorboard", purge_step=step)
        self._metrics.write(json.dumps({"step": step, **entry}) + "\n")
        if step % _EVERY == 0:
            for name, value in entry.items():
                if name != "stage":
                    self._board.add_scalar(f"{entry['stage']}/{name}", value, step)

    def keep(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """A checkpoint after `step` steps, and the metrics until then on the disk."""
        if not self.writes:
            return
        size = 0
        if self._metrics is not None:
            self._metrics.flush()
            size = self._metrics.tell()
        self.checkpoints.save(step, tensors, state | {"metrics_bytes": size})

    def finish(self, report: dict[str, Any]) -> None:
        """The report, which ends the run."""
        write_whole(self.path / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())

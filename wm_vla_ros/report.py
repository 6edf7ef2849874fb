"""What a command measured, said the same way by every command: a table for people, one object for machines.

The JSON object is {"command", "version", "conditions": {...}, "figures": [{"name", "value", "unit", "n",
"low", "high"}]}; low and high are the 95 % interval where there is one, otherwise null. A figure whose
value could not be measured (no successful run to average over) has the value null.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros import __version__

_REPORTED_PACKAGES = ("ros-rclpy", "mujoco", "onnxruntime-gpu", "onnxruntime", "torch", "lerobot", "numpy")


@dataclass(frozen=True)
class Figure:
    """One measured number. name: lower case, dotted ("reach.success"). n: samples behind it.

    low, high: the 95 % interval in `unit`. Raises ValueError on a name with spaces, or half an interval.
    """

    name: str
    value: float | int | bool | str
    unit: str = ""
    n: int | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not self.name or any(c.isspace() for c in self.name):
            raise ValueError(f"a figure's name must be one word, got {self.name!r}")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"figure {self.name}: low and high go together, got {self.low}, {self.high}")


@dataclass(frozen=True)
class Report:
    """Everything a command prints with --json. conditions: what the figures depend on."""

    command: str
    conditions: Mapping[str, Any]
    figures: tuple[Figure, ...]


def as_object(report: Report) -> dict[str, Any]:
    """The JSON object of `report`, with plain Python values only."""
    return {
        "command": report.command,
        "version": __version__,
        "conditions": _plain(dict(report.conditions)),
        "figures": [_plain(asdict(figure)) for figure in report.figures],
    }


def print_table(report: Report) -> None:
    """Print figures and conditions for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=report.command, title_justify="left")
    for column, justify in (("figure", "left"), ("value", "right"), ("unit", "left"), ("n", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("95 % interval", justify="right")
    for figure in report.figures:
        interval = "" if figure.low is None else f"{_text(figure.low)} .. {_text(figure.high)}"
        samples = "" if figure.n is None else str(figure.n)
        table.add_row(figure.name, _text(figure.value), figure.unit, samples, interval)
    console = Console()
    console.print(table)
    if report.conditions:
        console.print(", ".join(f"{key}: {value}" for key, value in report.conditions.items()), style="dim")


def emit(report: Report, as_json: bool, show: Callable[[Report], None] = print_table) -> None:
    """Print `report` on stdout: one JSON object on one line, or by `show`."""
    if not as_json:
        return show(report)
    sys.stdout.write(json.dumps(as_object(report), allow_nan=False) + "\n")
    sys.stdout.flush()


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (E. B. Wilson, JASA 22, 1927).

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} of {n}")
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def proportion(name: str, successes: int, n: int) -> Figure:
    """A share of successes with its Wilson interval. Raises ValueError when `n` is 0."""
    low, high = wilson(successes, n)
    return Figure(name, successes / n, "", n, low, high)


def mean_interval(name: str, values: Sequence[float], unit: str = "") -> Figure:
    """Mean of `values` with its 95 % Student t interval; no interval for one value, null for none."""
    n = len(values)
    if n == 0:
        return Figure(name, math.nan, unit, 0)
    mean = math.fsum(values) / n
    if n == 1:
        return Figure(name, mean, unit, n)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Figure(name, mean, unit, n, mean - half, mean + half)


def percentiles(prefix: str, milliseconds: Sequence[float] | NDArray[np.float64]) -> tuple[Figure, Figure]:
    """Figures `prefix`p50_ms and `prefix`p99_ms; null where there is no value."""
    n = len(milliseconds)
    middle, tail = np.percentile(milliseconds, [50, 99]) if n else (math.nan, math.nan)
    return Figure(f"{prefix}p50_ms", float(middle), "ms", n), Figure(f"{prefix}p99_ms", float(tail), "ms", n)


def conditions() -> dict[str, Any]:
    """The machine: processor, cores this process may use, versions, load average at this moment."""
    versions = {}
    for name in _REPORTED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": versions,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as Python values, paths as text, non-finite floats as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "n/a"
    return str(value)

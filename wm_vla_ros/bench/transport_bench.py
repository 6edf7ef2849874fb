"""`wm-vla bench transport`: how long a message takes from one process to another, and how many never arrive.

Two real processes for each transport, one payload after another; the baseline without any profile is always
measured in the same run. Latency is from the making of a message to the callback that takes it, both ends on
the machine's one monotonic clock and at default scheduling.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wm_vla_ros import paths
from wm_vla_ros.bench.child_processes import children
from wm_vla_ros.processes import PARENT_VARIABLE
from wm_vla_ros.report import Figure, percentiles

# By name: what the speaker and the listener are told (ros.transport_probe.TRANSPORTS). "none": no profile.
# "shm": the stack's, config/fastdds.xml. "udp": from the driver, which speaks UDP alone, to such a node.
TRANSPORTS = {"none": ("none", "none"), "shm": ("stack", "stack"), "udp": ("driver", "stack")}
BASELINE = "none"
RATE = 30.0
_PROBE = "wm_vla_ros.bench.transport_probe"
# Beyond the time that the messages themselves take: start-up and discovery on a busy machine, s.
_PATIENCE = 90.0

Payloads = Mapping[str, Mapping[str, Any]]


def parse_transports(text: str) -> tuple[str, ...]:
    """The transports of a comma-separated list, the baseline first whether it is named or not.

    Raises ValueError naming the one that is not known, and those that are.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in TRANSPORTS:
            raise ValueError(f"unknown transport {name!r}; valid: {', '.join(TRANSPORTS)}")
    return tuple(dict.fromkeys([BASELINE, *names]))


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """(width, height) of each of "96x96,640x480". Raises ValueError naming what is no size in 1 to 4096."""
    sizes = []
    for item in text.split(","):
        width, times, height = item.strip().partition("x")
        if not (times and width.isdecimal() and height.isdecimal()):
            raise ValueError(f"image size {item.strip()!r} is not WIDTHxHEIGHT in pixels, such as 640x480")
        size = int(width), int(height)
        if not all(1 <= edge <= 4096 for edge in size):
            raise ValueError(f"image size {item.strip()!r}: valid are 1 to 4096 pixels")
        sizes.append(size)
    return tuple(dict.fromkeys(sizes))


def payloads(sizes: Sequence[tuple[int, int]], steps: int, dim: int) -> Payloads:
    """What is sent, by name: an rgb8 Image of each size, and a LatentGoal of `steps` latents of `dim`."""
    images = {
        f"image_{width}x{height}": {"kind": "image", "shape": [height, width]} for width, height in sizes
    }
    return {**images, "goal": {"kind": "goal", "shape": [steps, dim]}}


def shipped_goal(world_model: str, policy: str) -> tuple[int, int]:
    """(steps, dim) of the goals that these models make: the chunk's imagined path with its beginning."""
    manifest = json.loads((paths.models_dir() / world_model / "manifest.json").read_text(encoding="utf-8"))
    config = json.loads((paths.models_dir() / policy / "config.json").read_text(encoding="utf-8"))
    return int(config["chunk_size"]) + 1, int(manifest["latent_dim"])


def run_transports(
    names: Sequence[str],
    chosen: Payloads,
    seconds: float,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Figure, ...]:
    """Measure every payload for `seconds` over each transport.

    Raises RuntimeError with its own words when one of the two processes does not do its work.
    """
    figures: list[Figure] = []
    for done, name in enumerate(names, 1):
        sent, latencies = _measure(name, chosen, seconds)
        for payload in chosen:
            figures += transport_figures(f"transport.{payload}.{name}", sent[payload], latencies[payload])
        progress(done)
    return tuple(figures)


def transport_figures(name: str, sent: int, latencies: Sequence[float]) -> tuple[Figure, ...]:
    """Figures `name`.p50_ms, .p99_ms and .lost of `sent` messages, of which `latencies` (ms) arrived."""
    return (
        *percentiles(f"{name}.", latencies),
        Figure(f"{name}.lost", 1.0 - len(latencies) / sent, "", sent),
    )


def _measure(name: str, chosen: Payloads, seconds: float) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Messages sent, and ms of those that arrived, by payload."""
    job = json.dumps({"rate": RATE, "seconds": seconds, "payloads": chosen})
    environment = {
        **os.environ,
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(paths.config_dir() / "fastdds.xml"),
        # One thread per library, as the stack's nodes have; the children end with this process.
        "OMP_NUM_THREADS": "1",
        PARENT_VARIABLE: str(os.getpid()),
    }
    speaking, listening = TRANSPORTS[name]
    try:
        with children([(_PROBE, "listen", listening, job)], "listening", environment) as (listener,):
            command = [sys.executable, "-m", _PROBE, "speak", speaking, job]
            patience = _PATIENCE + 2.0 * seconds * len(chosen)
            speaker = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=patience, check=False
            )
            if speaker.returncode != 0:
                raise RuntimeError(f"the speaker over {name!r} failed: {speaker.stderr.strip()[-500:]}")
            listener.send_signal(signal.SIGTERM)
            heard, complaint = listener.communicate(timeout=_PATIENCE)
            if listener.returncode != 0:
                raise RuntimeError(f"the listener over {name!r} failed: {complaint.strip()[-500:]}")
            return json.loads(speaker.stdout), json.loads(heard)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"a process over {name!r} did not end within {error.timeout:g} s") from error

"""The transport benchmark: what may be asked of it, its arithmetic, and one short run of real processes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import psutil
import pytest

from wm_vla_ros.bench.transport_bench import (
    TRANSPORTS,
    parse_sizes,
    parse_transports,
    payloads,
    shipped_goal,
    transport_figures,
)
from wm_vla_ros.config import defaults


def test_the_baseline_is_always_in_the_run() -> None:
    assert parse_transports("udp") == ("none", "udp")
    assert parse_transports("shm, udp,none,shm") == ("none", "shm", "udp")


def test_an_unknown_transport_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown transport 'tcp'; valid: none, shm, udp"):
        parse_transports("shm,tcp")


def test_sizes_are_width_by_height_and_shapes_are_rows_first() -> None:
    assert parse_sizes("96x96, 640x480,96x96") == ((96, 96), (640, 480))
    assert payloads(((640, 480),), 21, 128) == {
        "image_640x480": {"kind": "image", "shape": [480, 640]},
        "goal": {"kind": "goal", "shape": [21, 128]},
    }


@pytest.mark.parametrize("text", ["", "640", "640x", "axb", "-1x5", "640x480x3", "0x96", "9999x96"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="image size"):
        parse_sizes(text)


def test_the_goal_is_as_large_as_the_shipped_models_make_it() -> None:
    from wm_vla_ros import world_models
    from wm_vla_ros.robots.spec import load_robot

    steps, dim = shipped_goal(defaults().world_model, defaults().policy)
    model = world_models.load(defaults().world_model, robot=load_robot(defaults().robot))
    assert dim == model.latent_dim
    assert steps > model.horizon


def test_figures_of_what_arrived_and_what_did_not() -> None:
    figures = {figure.name: figure for figure in transport_figures("t.x", 10, [1.0, 2.0, 3.0, 4.0])}
    assert figures["t.x.p50_ms"].value == pytest.approx(2.5)
    assert figures["t.x.p99_ms"].value == pytest.approx(3.97)
    assert (figures["t.x.lost"].value, figures["t.x.lost"].n) == (pytest.approx(0.6), 10)


def test_nothing_arrived_is_no_latency_of_zero() -> None:
    figures = {figure.name: figure.value for figure in transport_figures("t.x", 10, [])}
    assert figures["t.x.lost"] == 1.0
    assert math.isnan(figures["t.x.p50_ms"])


@pytest.mark.graph
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_transport_carries_every_payload_and_no_process_is_left(tmp_path) -> None:
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    command = [sys.executable, "-m", "wm_vla_ros.cli", "bench", "transport", "--seconds", "2", "--json"]
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    for payload in ("image_96x96", "image_224x224", "image_640x480", "goal"):
        for name in TRANSPORTS:
            assert figures[f"transport.{payload}.{name}.p50_ms"] > 0.0
            assert figures[f"transport.{payload}.{name}.lost"] < 0.5
    assert {process.pid for process in psutil.Process().children(recursive=True)} == before

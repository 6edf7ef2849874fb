"""Which runtime is chosen, by their times and by what they imagine; the choice is said in one line."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.planning import calibration
from wm_vla_ros.planning.calibration import (
    TickTimes,
    Trial,
    choice,
    choose_runtime,
    elite_agreement,
    time_ticks,
)
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.world_models import ModelRefused
from wm_vla_ros.world_models.runtimes import available_runtimes

MODEL = "so101_latent_dynamics"


@pytest.fixture(scope="module")
def reference(spec):
    return world_models.load(MODEL, robot=spec)


class Altered:
    """The reference, its rollouts changed by `change`: (N, H, D) to (N, H, D)."""

    def __init__(self, model, change) -> None:
        self._model, self._change = model, change

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def rollout(self, latents, actions):
        return self._change(self._model.rollout(latents, actions))


@pytest.mark.parametrize(
    "times, chosen",
    [
        ((2.0, 1.9, 5.0), "onnx"),  # a tenth is not worth a second thread
        ((2.0, 1.7, 5.0), "onnx-shards"),
        ((9.0, 5.0, 0.9), "cuda-graph"),
        ((9.0, 1.0, 0.95), "onnx-shards"),
        ((3.1, 2.9, 8.0), "onnx-shards"),  # only one of the two meets 3 ms
        ((30.0, 20.0, 40.0), "onnx-shards"),  # none does: the nearest
        ((math.nan, 20.0, 40.0), "onnx-shards"),
        ((math.nan, math.nan, 40.0), "cuda-graph"),
        ((math.nan, math.nan, math.nan), None),
    ],
)
def test_the_simplest_that_is_about_as_fast_is_chosen(times, chosen) -> None:
    names = ("onnx", "onnx-shards", "cuda-graph")
    trials = [
        Trial(name, ms, "" if ms == ms else "for a reason") for name, ms in zip(names, times, strict=True)
    ]
    found = choice(trials, 3.0)
    assert (found.name if found else None) == chosen


def test_auto_says_in_one_line_what_it_tried(reference, spec, monkeypatch) -> None:
    """Two runtimes that run, of which the slower one is slow on purpose, and one that cannot be had."""
    lines, opened = [], []

    def opener(name: str):
        opened.append(name)
        if name == "cuda-graph":
            raise ModelRefused("no weights")
        return Altered(reference, lambda futures: futures)

    monkeypatch.setattr(calibration, "available_runtimes", lambda: ("onnx", "onnx-shards", "cuda-graph"))
    times = {"onnx": 4.0, "onnx-shards": 2.5}
    monkeypatch.setattr(
        calibration, "time_ticks", lambda *_: TickTimes(np.full(3, times[opened[-1]]), np.ones(3))
    )
    name, model = choose_runtime("auto", opener, spec, MpcConfig(), lines.append)
    assert (name, opened) == ("onnx-shards", ["onnx", "onnx-shards", "cuda-graph"])
    assert lines == [
        "runtime onnx-shards; median ms of a tick: onnx 4.00, onnx-shards 2.50, "
        "cuda-graph refused (no weights); deadline 12.0 ms"
    ]
    assert model.encoder_id == reference.encoder_id


@pytest.mark.parametrize("asked", ["auto", "onnx", "onnx-shards"])
def test_on_this_machine_it_gives_a_model_that_plans(spec, asked: str) -> None:
    if asked != "auto" and asked not in available_runtimes():
        pytest.skip("needs a second core")
    lines = []
    name, model = choose_runtime(
        asked, lambda name: world_models.load(MODEL, spec, runtime=name), spec, MpcConfig(), lines.append
    )
    assert len(lines) == 1
    assert lines[0].startswith(f"runtime {name}")
    assert asked in ("auto", name)
    taken = time_ticks(model, spec, MpcConfig(), 3)
    assert len(taken.ticks) == 3
    assert np.all((taken.ticks > taken.searches) & (taken.searches > 0.0))


def test_more_rollouts_take_longer(reference, spec) -> None:
    """The times are of whole ticks at the shapes asked for; the deadline does not cut them short."""
    few = replace(MpcConfig(), deadline=1e-6)
    many = replace(few, sampler=replace(few.sampler, samples=256, iterations=4))
    slow, fast = (np.median(time_ticks(reference, spec, each).searches) for each in (many, few))
    assert slow > 4.0 * fast


def test_a_model_that_plans_nothing_is_not_called_fast(reference, spec) -> None:
    broken = Altered(reference, lambda futures: np.full_like(futures, np.nan))
    with pytest.raises(ModelRefused, match="expected a plan in every tick, found none .*NaN or infinity"):
        time_ticks(broken, spec, MpcConfig())


@pytest.mark.parametrize("wrong", [1e-2, np.nan])
def test_a_runtime_that_imagines_something_else_is_refused(reference, spec, wrong: float) -> None:
    def opener(name: str):
        return reference if name == "onnx" else Altered(reference, lambda futures: futures + wrong)

    with pytest.raises(ModelRefused, match="runtime torch: expected latents within 0.001, found"):
        choose_runtime("torch", opener, spec, MpcConfig(), lambda line: None)
    choose_runtime("onnx", opener, spec, MpcConfig(), lambda line: None)


class TestRankAgreement:
    def test_with_itself_it_is_whole(self, reference) -> None:
        assert elite_agreement(reference, reference, MpcConfig()) == (1.0, pytest.approx(1.0))

    def test_of_noise_it_falls_with_the_noise(self, reference) -> None:
        found = []
        for size in (0.001, 0.03, 3.0):
            rng = np.random.default_rng(0)
            noisy = Altered(reference, lambda f, s=size, r=rng: f + s * r.standard_normal(f.shape))
            found.append(elite_agreement(noisy, reference, MpcConfig()))
        shared, correlation = zip(*found, strict=True)
        assert shared[0] > shared[2]
        assert correlation[0] > correlation[1] > correlation[2]
        assert shared[0] >= 0.9
        assert correlation[2] < 0.9

    def test_of_what_is_not_finite_there_is_none(self, reference) -> None:
        broken = Altered(reference, lambda futures: np.where(futures > 0, futures, np.nan))
        assert elite_agreement(broken, reference, MpcConfig()) == (0.0, -1.0)

    @pytest.mark.parametrize(("digits", "fits"), [(3, True), (0, False)])
    def test_bfloat16_is_taken_by_its_ranks(self, reference, spec, digits: int, fits: bool) -> None:
        """A difference that float32 would be refused for is taken, one that loses the elites is not."""

        def opener(name: str):
            return reference if name == "onnx" else Altered(reference, lambda f: np.round(f, digits))

        def choose() -> str:
            return choose_runtime("torch-bf16", opener, spec, MpcConfig(), lambda line: None)[0]

        if fits:
            assert choose() == "torch-bf16"
            return
        with pytest.raises(ModelRefused, match=r"expected 90% of the elites .* found \d+% and"):
            choose()

    def test_the_shipped_model_keeps_its_elites_in_bfloat16(self, reference, spec) -> None:
        pytest.importorskip("torch")
        from wm_vla_ros.world_models.manifest import read_files, read_manifest
        from wm_vla_ros.world_models.registry import find
        from wm_vla_ros.world_models.runtimes import RUNTIMES

        manifest = read_manifest(find(MODEL))
        low = RUNTIMES["torch-bf16"].load(manifest, read_files(find(MODEL), manifest))
        shared, correlation = elite_agreement(low, reference, MpcConfig())
        assert shared >= 0.95
        assert correlation > 0.999


def test_a_driver_that_fails_costs_its_runtime_and_not_the_loop(reference, spec, monkeypatch) -> None:
    class CudaError(Exception):
        """Stands for what CUDA libraries raise."""

    def opener(name: str):
        if name == "cuda-graph":
            raise CudaError("out of memory\non device 0")
        return reference

    lines = []
    monkeypatch.setattr(calibration, "available_runtimes", lambda: ("onnx", "cuda-graph"))
    assert choose_runtime("auto", opener, spec, MpcConfig(), lines.append)[0] == "onnx"
    assert "cuda-graph refused (out of memory on device 0)" in lines[0]
    with pytest.raises(CudaError):
        choose_runtime("cuda-graph", opener, spec, MpcConfig(), lines.append)


def test_when_nothing_suits_the_sampler_every_reason_is_given(spec, monkeypatch) -> None:
    monkeypatch.setattr(calibration, "available_runtimes", lambda: ("onnx",))
    config = replace(MpcConfig(), method="gradient")
    with pytest.raises(ModelRefused, match="no runtime can plan here: onnx refused .*use runtime 'torch'"):
        choose_runtime(
            "auto", lambda name: world_models.load(MODEL, runtime=name), spec, config, lambda line: None
        )


def test_choosing_loads_no_torch_where_there_is_no_gpu() -> None:
    script = (
        "import sys\n"
        "from wm_vla_ros import world_models\n"
        "from wm_vla_ros.planning.calibration import choose_runtime\n"
        "from wm_vla_ros.planning.config import MpcConfig\n"
        "from wm_vla_ros.robots.spec import load_robot\n"
        "from wm_vla_ros.world_models import runtimes\n"
        "runtimes._DEVICE_NODES = ()\n"
        f"opener = lambda name: world_models.load({MODEL!r}, runtime=name)\n"
        "choose_runtime('auto', opener, load_robot('so101'), MpcConfig(), print)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)

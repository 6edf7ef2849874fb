"""Every runtime computes what the reference does; what cannot run here, or must not, is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.world_models import ModelRefused, runtimes
from wm_vla_ros.world_models.manifest import read_files, read_manifest
from wm_vla_ros.world_models.onnx_gpu import GpuOnnxWorldModel
from wm_vla_ros.world_models.onnx_runtime import CPU, WEIGHTS_FILE, OnnxWorldModel
from wm_vla_ros.world_models.runtimes import RUNTIMES, available_runtimes


@pytest.fixture(scope="module")
def reference(exported: Path) -> OnnxWorldModel:
    return world_models.load(exported)


def sample(count: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count + horizon)
    latents = rng.normal(size=(count, 16)).astype(np.float32)
    return latents, rng.uniform(-1, 1, (count, horizon, 7)).astype(np.float32)


@pytest.fixture(scope="module")
def models(exported: Path) -> dict[str, OnnxWorldModel]:
    """The runtimes that need no device, and the GPU's buffers in the CPU's memory."""

    class BuffersOnCpu(GpuOnnxWorldModel):
        device, provider, rollout_providers = "cpu", "CPUExecutionProvider", CPU

    pytest.importorskip("torch")
    manifest = read_manifest(exported)
    return {
        "torch": world_models.load(exported, runtime="torch"),
        # Not through `load`, which wants a second core.
        "onnx-shards": RUNTIMES["onnx-shards"].load(manifest, read_files(exported, manifest)),
        "onnx-gpu": BuffersOnCpu(manifest, read_files(exported, manifest)),
    }


@pytest.mark.parametrize("name", ["torch", "onnx-shards", "onnx-gpu"])
@pytest.mark.parametrize(("rows", "horizon"), [(1, 10), (2, 10), (7, 10), (64, 10), (5, 3), (5, 23), (4, 0)])
def test_every_runtime_rolls_out_as_the_reference(models, reference, name: str, rows: int, horizon: int):
    latents, actions = sample(rows, horizon)
    found = models[name].rollout(latents, actions)
    assert found.shape == (rows, horizon, 16)
    np.testing.assert_allclose(found, reference.rollout(latents, actions), atol=1e-4)


@pytest.mark.parametrize("name", ["torch", "onnx-shards"])
def test_a_result_is_not_overwritten_by_the_next_call(models, name: str) -> None:
    """onnx-gpu hands out copies too, on a GPU; the buffers that stand in for one here are the host's."""
    latents, actions = sample(6, 10)
    first = models[name].rollout(latents, actions)
    kept = first.copy()
    models[name].rollout(latents, -actions)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["torch", "onnx-shards", "onnx-gpu"])
def test_wrong_shapes_are_named_by_all(models, name: str) -> None:
    with pytest.raises(ValueError, match=r"actions: expected \(4, H, 7\), got \(4, 10, 6\)"):
        models[name].rollout(np.zeros((4, 16), np.float32), np.zeros((4, 10, 6), np.float32))


def test_a_failure_in_the_second_shard_is_not_lost(models, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self, latents, actions):
        if len(latents) == 3:
            raise RuntimeError("second half")
        return np.zeros((*actions.shape[:2], 16), np.float32)

    monkeypatch.setattr(OnnxWorldModel, "_unrolled", run)
    with pytest.raises(RuntimeError, match="second half"):
        models["onnx-shards"].rollout(*sample(5, 10))


def test_bfloat16_is_near_the_reference_and_not_the_same(exported: Path, reference) -> None:
    """That it differs shows that it is used; that the state stays float32, that it does not drift away."""
    pytest.importorskip("torch")
    manifest = read_manifest(exported)
    low = RUNTIMES["torch-bf16"].load(manifest, read_files(exported, manifest))
    latents, actions = sample(64, 10)
    error = np.abs(low.rollout(latents, actions) - reference.rollout(latents, actions))
    assert 1e-4 < error.max() < 0.2


def test_gradients_are_those_of_finite_differences(models) -> None:
    torch = pytest.importorskip("torch")
    model = models["torch"]
    latents, actions = (torch.from_numpy(each) for each in sample(3, 10))

    def total(acts):
        _, grounded = model.imagine(latents, acts)
        return grounded.square().sum()

    leaf = actions.clone().requires_grad_()
    total(leaf).backward()
    for place in ((0, 0, 0), (1, 4, 2), (2, 9, 6)):
        step = torch.zeros_like(actions)
        step[place] = 1e-2
        slope = (total(actions + step) - total(actions - step)) / 2e-2
        assert leaf.grad[place].item() == pytest.approx(slope.item(), rel=2e-2, abs=1e-3)


def test_an_unknown_runtime_lists_the_valid_ones(exported: Path) -> None:
    with pytest.raises(ModelRefused, match="unknown runtime 'tpu'; valid: onnx, onnx-shards, torch"):
        world_models.load(exported, runtime="tpu")


@pytest.mark.parametrize("name", ["onnx-gpu", "cuda-graph", "cuda-graph-bf16"])
def test_without_a_gpu_its_runtimes_say_so(exported: Path, monkeypatch, name: str) -> None:
    monkeypatch.setattr(runtimes, "_DEVICE_NODES", ())
    with pytest.raises(ModelRefused, match=f"runtime {name}: needs an NVIDIA GPU, and there is none here"):
        world_models.load(exported, runtime=name)


def test_without_bfloat16_in_the_processor_its_runtime_says_so(exported, monkeypatch, tmp_path) -> None:
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags : fpu avx2\n")
    monkeypatch.setattr(runtimes, "_CPU_FLAGS", flags)
    with pytest.raises(ModelRefused, match="runtime torch-bf16: needs a processor with one of amx_bf16"):
        world_models.load(exported, runtime="torch-bf16")


@pytest.mark.parametrize("name", ["torch", "torch-bf16", "cuda-graph"])
def test_without_torch_its_runtimes_say_so(exported: Path, monkeypatch, name: str) -> None:
    """A ROS 2 install need not have it; and `auto` goes on without it, GPU or no GPU."""
    monkeypatch.setattr(runtimes, "find_spec", lambda package: None)
    monkeypatch.setattr(runtimes, "has_gpu", lambda: True)
    with pytest.raises(ModelRefused, match=f"runtime {name}: needs the package torch"):
        world_models.load(exported, runtime=name)
    assert "onnx" in available_runtimes()
    assert not {"torch", "torch-bf16", "cuda-graph"} & set(available_runtimes())


def test_a_model_without_torch_weights_says_so(folder: Path) -> None:
    pytest.importorskip("torch")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][WEIGHTS_FILE]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelRefused, match=f"expected {WEIGHTS_FILE} for a torch runtime, found none"):
        world_models.load(folder, runtime="torch")
    world_models.load(folder)


@pytest.mark.parametrize("wrong", ["missing", "shape"])
def test_weights_that_do_not_fit_are_named(folder: Path, wrong: str) -> None:
    """A file of another model: nothing is broadcast, nothing is left at its initial value."""
    pytest.importorskip("torch")
    from safetensors.numpy import load, save

    manifest = read_manifest(folder)
    contents = read_files(folder, manifest)
    tensors = load(contents[WEIGHTS_FILE])
    if wrong == "missing":
        del tensors["dynamics.hidden.bias"]
    else:
        tensors["dynamics.hidden.bias"] = tensors["dynamics.hidden.bias"][:-1].copy()
    with pytest.raises(ModelRefused, match=rf"{WEIGHTS_FILE}: .*hidden\.bias"):
        RUNTIMES["torch"].load(manifest, {**contents, WEIGHTS_FILE: save(tensors)})


def test_unasked_nothing_loads_torch_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_DEVICE_NODES", ())
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert available_runtimes() == ("onnx", "onnx-shards")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert available_runtimes() == ("onnx",)


def test_asking_what_is_available_loads_no_torch(exported: Path) -> None:
    script = (
        "import sys\n"
        "from wm_vla_ros import world_models\n"
        "from wm_vla_ros.world_models import runtimes\n"
        "runtimes._DEVICE_NODES = ()\n"
        "for name in runtimes.available_runtimes():\n"
        "    world_models.load(sys.argv[1], runtime=name)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(exported)], check=True, timeout=120, env={**os.environ})


def test_a_loaded_model_leaves_nothing_in_the_home_directory(exported, tmp_path):
    """ONNX Runtime would keep a record of its use there, to be sent to its maker."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    load = "import sys; from wm_vla_ros import world_models; world_models.load(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", load, str(exported)], env={**variables, "HOME": str(tmp_path)}, check=True
    )
    assert not list(tmp_path.iterdir())

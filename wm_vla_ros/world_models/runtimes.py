"""Ways to run one world model, by name, the simplest first. Nothing heavy is imported unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.protocol import WorldModel

Loader = Callable[[Manifest, Mapping[str, bytes]], WorldModel]
# Present when an NVIDIA driver has a device; onnxruntime-gpu lists CUDA as available without one.
_DEVICE_NODES = (Path("/dev/nvidiactl"), Path("/dev/nvhost-ctrl-gpu"), Path("/dev/dxg"))
_CPU_FLAGS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def has_gpu() -> bool:
    """Whether an NVIDIA driver has a device here; asks no library."""
    return any(node.exists() for node in _DEVICE_NODES)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way. lacks: what this machine lacks for it, in words, or "". torch: it loads torch.

    bfloat16: its numbers differ from the others' and have to be checked before they are used.
    """

    load: Loader
    lacks: Callable[[], str] = lambda: ""
    torch: bool = False
    bfloat16: bool = False


def _onnx(manifest: Manifest, contents: Mapping[str, bytes]) -> WorldModel:
    from wm_vla_ros.world_models.onnx_runtime import OnnxWorldModel

    return OnnxWorldModel(manifest, contents)


def _shards(manifest: Manifest, contents: Mapping[str, bytes]) -> WorldModel:
    from wm_vla_ros.world_models.onnx_shards import ShardedWorldModel

    return ShardedWorldModel(manifest, contents)


def _onnx_gpu(manifest: Manifest, contents: Mapping[str, bytes]) -> WorldModel:
    from wm_vla_ros.world_models.onnx_gpu import GpuOnnxWorldModel

    return GpuOnnxWorldModel(manifest, contents)


def _torch(
    device: str, bfloat16: bool, whole_plan: bool, manifest: Manifest, contents: Mapping[str, bytes]
) -> WorldModel:
    from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

    return TorchWorldModel(manifest, contents, device, bfloat16=bfloat16, whole_plan=whole_plan)


def _no_second_core() -> str:
    return "" if len(os.sched_getaffinity(0)) >= 2 else "a second core"


def _no_onnx_gpu() -> str:
    import onnxruntime

    if not has_gpu():
        return "an NVIDIA GPU"
    listed = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return "" if listed else "the package onnxruntime-gpu"


def _no_torch() -> str:
    return "" if find_spec("torch") else "the package torch"


def _no_cuda() -> str:
    lacking = "" if has_gpu() else "an NVIDIA GPU"
    if lacking := lacking or _no_torch():
        return lacking
    import torch

    return "" if torch.cuda.is_available() else f"a CUDA device that torch {torch.__version__} can use"


def _no_cpu_bfloat16() -> str:
    if lacking := _no_torch():
        return lacking
    words = set(_CPU_FLAGS.read_text().split()) if _CPU_FLAGS.is_file() else set()
    return "" if words & _BFLOAT16_FLAGS else f"a processor with one of {', '.join(sorted(_BFLOAT16_FLAGS))}"


def _no_cuda_bfloat16() -> str:
    if lacking := _no_cuda():
        return lacking
    import torch

    return "" if torch.cuda.is_bf16_supported(including_emulation=False) else "a GPU with bfloat16"


RUNTIMES: dict[str, Runtime] = {
    "onnx": Runtime(_onnx),
    "onnx-shards": Runtime(_shards, _no_second_core),
    "torch": Runtime(partial(_torch, "cpu", False, False), _no_torch, torch=True),
    "torch-bf16": Runtime(partial(_torch, "cpu", True, False), _no_cpu_bfloat16, torch=True, bfloat16=True),
    "onnx-gpu": Runtime(_onnx_gpu, _no_onnx_gpu),
    "cuda-graph": Runtime(partial(_torch, "cuda", False, True), _no_cuda, torch=True),
    "cuda-graph-bf16": Runtime(
        partial(_torch, "cuda", True, True), _no_cuda_bfloat16, torch=True, bfloat16=True
    ),
}


def available_runtimes() -> tuple[str, ...]:
    """What may be tried unasked here: without a GPU nothing that loads torch, 4 s and 1 GB for no gain."""
    return tuple(
        name for name, runtime in RUNTIMES.items() if (has_gpu() or not runtime.torch) and not runtime.lacks()
    )


def open_runtime(manifest: Manifest, contents: Mapping[str, bytes], name: str) -> WorldModel:
    """The model under the runtime `name`. Raises ModelRefused for an unknown one, or one not for here."""
    if name not in RUNTIMES:
        raise ModelRefused(f"unknown runtime {name!r}; valid: {', '.join(RUNTIMES)}")
    if lacking := RUNTIMES[name].lacks():
        raise ModelRefused(f"runtime {name}: needs {lacking}, and there is none here")
    return RUNTIMES[name].load(manifest, contents)

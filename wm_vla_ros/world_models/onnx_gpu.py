"""ONNX Runtime on a CUDA device, its inputs and outputs bound: nothing is allocated from call to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.onnx_runtime import CPU, OnnxWorldModel


class GpuOnnxWorldModel(OnnxWorldModel):
    """An `OnnxWorldModel` that rolls out on device 0; encoder and single steps stay on the CPU.

    Not for several threads at once: a shape's buffers are shared by all calls of that shape.
    """

    device = "cuda"
    provider = "CUDAExecutionProvider"
    # Off by default in torch and on by default here: TF32 keeps 10 bits of a mantissa.
    rollout_providers = [(provider, {"use_tf32": "0"}), *CPU]  # noqa: RUF012 - a constant

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
        """Raises ModelRefused where the session does not get the device."""
        import onnxruntime

        onnxruntime.preload_dlls()  # CUDA's libraries may come with torch's wheels
        super().__init__(manifest, contents)
        found = self._rollout.get_providers()
        if self.provider not in found:
            raise ModelRefused(f"runtime onnx-gpu: expected {self.provider}, found {', '.join(found)}")
        self._bound: dict[int, tuple[Any, Any, Any, Any]] = {}

    def _unrolled(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """As the base's; the first call of a number of rows makes that shape's buffers on the device."""
        rows = len(latents)
        if rows not in self._bound:
            self._bound[rows] = self._bind(rows)
        binding, latent_in, actions_in, out = self._bound[rows]
        latent_in.update_inplace(latents)
        actions_in.update_inplace(actions)
        self._rollout.run_with_iobinding(binding)
        return out.numpy()

    def _bind(self, rows: int) -> tuple[Any, Any, Any, Any]:
        from onnxruntime import OrtValue

        binding = self._rollout.io_binding()
        shapes = {
            "latent": (rows, self.latent_dim),
            "actions": (rows, self.horizon, self.action_dim),
            "latents": (rows, self.horizon, self.latent_dim),
        }
        values = {
            name: OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32), self.device, 0)
            for name, shape in shapes.items()
        }
        binding.bind_ortvalue_input("latent", values["latent"])
        binding.bind_ortvalue_input("actions", values["actions"])
        binding.bind_ortvalue_output("latents", values["latents"])
        return binding, values["latent"], values["actions"], values["latents"]

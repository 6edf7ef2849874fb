"""A world model's dynamics in torch: on a GPU, or where a plan needs gradients through the model.

Encoder, single steps and grounding stay on ONNX Runtime and numpy, as in the other runtimes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.families import family_class
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.modules import Transition
from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE, OnnxWorldModel
from wm_vla_ros.world_models.tensors import read_float32

_PREFIX = "dynamics."


class TorchWorldModel(OnnxWorldModel):
    """An `OnnxWorldModel` whose rollouts are torch's, one thread on a CPU.

    whole_plan: the planner is to make whole plans on the device, and not only rollouts.
    """

    def __init__(
        self,
        manifest: Manifest,
        contents: Mapping[str, bytes],
        device: str = "cpu",
        *,
        bfloat16: bool = False,
        whole_plan: bool = False,
    ) -> None:
        """Raises ModelRefused when the model ships no torch weights, or weights that do not fit."""
        super().__init__(manifest, contents)
        self.device = torch.device(device)
        self.whole_plan = whole_plan
        self.dynamics = _dynamics(manifest, contents, bfloat16).to(self.device)
        self._to_metres = (
            torch.tensor(self._weight).to(self.device),
            torch.tensor(self._bias).to(self.device),
        )

    def imagine(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, H, D) after actions (N, H, A) from latents (N, D), and what they say in metres.

        On `device`, differentiable, without a copy to or from the host.
        """
        imagined = self.dynamics.rollout(latents, actions)
        weight, bias = self._to_metres
        return imagined, imagined @ weight + bias

    def rollout(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """See `WorldModel.rollout`. A single future is not worth its way to a device that plans by itself."""
        if self.whole_plan and len(latents) == 1:
            return super().rollout(latents, actions)
        latents, actions = self._pair(latents, actions, 3)
        if actions.shape[1] == 0:
            return np.empty((len(latents), 0, self.latent_dim), np.float32)
        torch.set_num_threads(1)  # holds for the calling thread alone, and costs 0.2 us
        with torch.inference_mode():
            start, acts = (torch.from_numpy(each).to(self.device) for each in (latents, actions))
            return self.dynamics.rollout(start, acts).cpu().numpy()


def _dynamics(manifest: Manifest, contents: Mapping[str, bytes], bfloat16: bool) -> Transition:
    if WEIGHTS_FILE not in contents:
        raise ModelRefused(
            f"{manifest.name}: expected {WEIGHTS_FILE} for a torch runtime, found none; "
            "the runtimes onnx, onnx-shards and onnx-gpu need none"
        )
    what = f"{manifest.name}: {WEIGHTS_FILE}"
    found = {
        name.removeprefix(_PREFIX): torch.from_numpy(value.copy())
        for name, value in read_float32(contents[WEIGHTS_FILE], what).items()
        if name.startswith(_PREFIX)
    }
    transition = family_class(manifest.family).dynamics_type
    try:
        dynamics = transition.sized(found, manifest.latent_dim, manifest.action_dim)
        dynamics.load_state_dict(found)
    except KeyError as error:
        raise ModelRefused(f"{what}: expected the tensor {_PREFIX}{error.args[0]}, found none") from error
    except RuntimeError as error:  # torch names every missing, unknown and misshapen tensor
        raise ModelRefused(f"{what}: {re.sub(r'\s+', ' ', str(error))}") from error
    if bfloat16:
        dynamics.lower(torch.bfloat16)
    return dynamics.eval().requires_grad_(False)

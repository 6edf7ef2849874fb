"""Networks of the sizes that are compared. Their weights are random: a plan's time does not depend on them.

`OnnxDynamics` is how the fast loop runs its model: the whole rollout as one graph, one thread. The torch
modules are how planners are written down: step for step, layer for layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wm_vla_ros.types import FloatArray

LATENT, HIDDEN, ACTION = 128, 256, 7
# The published sizes of TD-MPC2's 5M model (Hansen et al., ICLR 2024, table 8).
TDMPC2_LATENT, TDMPC2_HIDDEN, TDMPC2_BINS, TDMPC2_Q = 512, 512, 101, 5


def multiply_adds_per_step() -> int:
    """Of the dynamics: what a GEMM has to do for one sample and one step."""
    return (LATENT + ACTION) * HIDDEN + HIDDEN * HIDDEN + HIDDEN * LATENT


def gemm_peak(repeats: int = 12) -> float:
    """FLOP/s of one thread on square fp32 matrix products, the best of `repeats` and of three sizes."""
    import time

    import torch

    best = 0.0
    for size in (256, 512, 1024):
        a, b = torch.randn(size, size), torch.randn(size, size)
        out = torch.empty(size, size)
        for _ in range(repeats):
            begin = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2.0 * size**3 / (time.perf_counter() - begin))
    return best


class OnnxDynamics:
    """Two hidden layers, ReLU, unrolled over `horizon` steps in ONNX Runtime."""

    def __init__(self, horizon: int, seed: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        model = _unrolled(horizon, np.random.default_rng(seed))
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def rollout(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """Latents (N, H, 128) after each of the actions (N, H, 7), from latents (N, 128)."""
        return self._session.run(None, {"latent": latents, "actions": actions})[0]


def _unrolled(horizon: int, rng: np.random.Generator) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    def weight(rows: int, columns: int) -> FloatArray:
        return (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

    constants = {
        "w_latent": weight(LATENT, HIDDEN),
        "w_action": weight(ACTION, HIDDEN),
        "w_hidden": weight(HIDDEN, HIDDEN),
        "w_out": weight(HIDDEN, LATENT),
        "b_hidden": np.zeros(HIDDEN, np.float32),
        "b_out": np.zeros(LATENT, np.float32),
        "side_by_side": np.array([0, horizon * HIDDEN], np.int64),
        "one_by_one": np.array([0, horizon, LATENT], np.int64),
    }
    # The actions' share of the first layer is one product for all steps; two dimensions throughout, because
    # at these sizes moving an axis costs as much as a product.
    forces = [f"force{i}" for i in range(horizon)]
    nodes = [
        helper.make_node("MatMul", ["actions", "w_action"], ["pushed"]),
        helper.make_node("Reshape", ["pushed", "side_by_side"], ["row"]),
        helper.make_node("Split", ["row"], forces, axis=1, num_outputs=horizon),
    ]
    before = "latent"
    for i in range(horizon):
        nodes += [
            helper.make_node("Gemm", [before, "w_latent", f"force{i}"], [f"first{i}"]),
            helper.make_node("Relu", [f"first{i}"], [f"active{i}"]),
            helper.make_node("Gemm", [f"active{i}", "w_hidden", "b_hidden"], [f"second{i}"]),
            helper.make_node("Relu", [f"second{i}"], [f"hidden{i}"]),
            helper.make_node("Gemm", [f"hidden{i}", "w_out", "b_out"], [f"next{i}"]),
        ]
        before = f"next{i}"
    nodes += [
        helper.make_node("Concat", [f"next{i}" for i in range(horizon)], ["path"], axis=1),
        helper.make_node("Reshape", ["path", "one_by_one"], ["latents"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rollout",
        [
            helper.make_tensor_value_info("latent", TensorProto.FLOAT, [None, LATENT]),
            helper.make_tensor_value_info("actions", TensorProto.FLOAT, [None, horizon, ACTION]),
        ],
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, [None, horizon, LATENT])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def torch_dynamics() -> Any:
    """The same network as a torch module: (N, 128 + 7) to (N, 128)."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(LATENT + ACTION, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, LATENT),
    )


def tdmpc2_networks() -> dict[str, Any]:
    """Dynamics, reward, policy and value ensemble of TD-MPC2's 5M model, by name."""
    import torch
    from torch import nn

    class SimNorm(nn.Module):
        """Softmax over groups of eight."""

        def forward(self, x: Any) -> Any:
            return torch.softmax(x.unflatten(-1, (-1, 8)), dim=-1).flatten(-2)

    def layer(inputs: int, outputs: int) -> list[Any]:
        return [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Mish()]

    def mlp(inputs: int, outputs: int) -> Any:
        return nn.Sequential(
            *layer(inputs, TDMPC2_HIDDEN),
            *layer(TDMPC2_HIDDEN, TDMPC2_HIDDEN),
            nn.Linear(TDMPC2_HIDDEN, outputs),
        )

    both = TDMPC2_LATENT + ACTION
    dynamics = nn.Sequential(
        *layer(both, TDMPC2_HIDDEN),
        *layer(TDMPC2_HIDDEN, TDMPC2_HIDDEN),
        nn.Linear(TDMPC2_HIDDEN, TDMPC2_LATENT),
        nn.LayerNorm(TDMPC2_LATENT),
        SimNorm(),
    )
    networks = {
        "dynamics": dynamics,
        "reward": mlp(both, TDMPC2_BINS),
        "policy": mlp(TDMPC2_LATENT, 2 * ACTION),
        **{f"q{i}": mlp(both, TDMPC2_BINS) for i in range(TDMPC2_Q)},
    }
    return {name: network.eval() for name, network in networks.items()}

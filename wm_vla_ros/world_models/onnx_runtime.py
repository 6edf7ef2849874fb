"""A world model on ONNX Runtime: the fast loop's runtime. numpy in, numpy out; no torch in the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.actor_critic import ACTOR_CRITIC_FILE, ActorCritic
from wm_vla_ros.world_models.heads import HEADS_FILE, Heads
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.tensors import read_float32

ENCODER_FILE = "encoder.onnx"
STEP_FILE = "step.onnx"
ROLLOUT_FILE = "rollout.onnx"
SPREAD_FILE = "spread.onnx"
GROUNDING_FILE = "grounding.safetensors"
WEIGHTS_FILE = "weights.safetensors"
CPU: list[Any] = ["CPUExecutionProvider"]
# In an expected shape: any fixed size.
ANY = -1


class OnnxWorldModel:
    """`WorldModel` over checked files: encoder, step, unrolled rollout, linear grounding, and maybe a spread.

    One intra-op thread per session: with two, any competitor on the machine makes small matrix products a
    hundred times slower. The inputs' last dimensions are checked here, so a wrong shape is named rather
    than left to the runtime. Not thread-safe in the sense of speed only: calls may overlap, and share cores.
    """

    # What the unrolled rollout, the planner's call, runs on; single states are too small to send anywhere.
    rollout_providers = CPU

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
        """contents: file name -> verified bytes. Raises ModelRefused when one does not fit the manifest."""
        self.manifest = manifest
        self.latent_dim = manifest.latent_dim
        self.action_dim = manifest.action_dim
        self.dt = manifest.dt
        self.encoder_id = manifest.encoder_id
        self.grounding_names = manifest.grounding_names
        self.horizon = manifest.horizon
        for name in (ENCODER_FILE, STEP_FILE, ROLLOUT_FILE, GROUNDING_FILE):
            if name not in contents:
                raise ModelRefused(f"{manifest.name}: expected file {name} in the manifest, found none")
        grounding = read_float32(contents[GROUNDING_FILE], f"{manifest.name}: {GROUNDING_FILE}")
        outputs = len(manifest.grounding_names)
        self._weight = _tensor(grounding, "weight", (manifest.latent_dim, outputs), manifest.name)
        self._bias = _tensor(grounding, "bias", (outputs,), manifest.name)
        self.heads = Heads(manifest, contents[HEADS_FILE]) if HEADS_FILE in contents else None
        learned = contents.get(ACTOR_CRITIC_FILE)
        self.actor_critic = None if learned is None else ActorCritic(manifest, learned)
        dim, actions, horizon = manifest.latent_dim, manifest.action_dim, manifest.horizon
        frames: list[list[int | None]] = [
            [1, height, width, 3] for height, width in manifest.cameras.values()
        ]
        self._encoder = open_session(
            contents, ENCODER_FILE, CPU, [*frames, [1, len(manifest.proprio_names)]], [1, dim]
        )
        self._step = open_session(contents, STEP_FILE, CPU, [[None, dim], [None, actions]], [None, dim])
        self._rollout = open_session(
            contents,
            ROLLOUT_FILE,
            self.rollout_providers,
            [[None, dim], [None, horizon, actions]],
            [None, horizon, dim],
        )
        self._spread = (
            open_session(contents, SPREAD_FILE, CPU, [[None, dim]], [None, outputs])
            if SPREAD_FILE in contents
            else None
        )

    def encode(self, images: Mapping[str, NDArray[np.uint8]], proprio: FloatArray) -> FloatArray:
        """See `WorldModel.encode`."""
        feed: dict[str, NDArray] = {}
        for name, (height, width) in self.manifest.cameras.items():
            if name not in images:
                raise ValueError(f"no image of camera {name!r}; got {sorted(images)}")
            image = images[name]
            if image.shape != (height, width, 3) or image.dtype != np.uint8:
                raise ValueError(
                    f"camera {name!r}: expected ({height}, {width}, 3) uint8, got {image.shape} {image.dtype}"
                )
            feed[f"image_{name}"] = np.ascontiguousarray(image)[None]
        state, size = np.asarray(proprio, np.float32), len(self.manifest.proprio_names)
        if state.shape != (size,):
            raise ValueError(f"proprio: expected ({size},) values, got {state.shape}")
        if not np.all(np.isfinite(state)):
            raise ValueError(f"proprio: expected finite values, got {state.tolist()}")
        feed["proprio"] = state[None]
        return self._encoder.run(None, feed)[0][0]

    def predict(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """See `WorldModel.predict`."""
        latents, actions = self._pair(latents, actions, 2)
        return self._step.run(None, {"latent": latents, "action": actions})[0]

    def rollout(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """See `WorldModel.rollout`. One call per `horizon` actions, and one per action left over."""
        latents, actions = self._pair(latents, actions, 3)
        steps = actions.shape[1]
        if steps == self.horizon:
            return self._unrolled(latents, actions)
        out = np.empty((len(latents), steps, self.latent_dim), np.float32)
        done = 0
        while steps - done >= self.horizon:
            window = np.ascontiguousarray(actions[:, done : done + self.horizon])
            out[:, done : done + self.horizon] = self._unrolled(latents, window)
            done += self.horizon
            latents = np.ascontiguousarray(out[:, done - 1])
        for step in range(done, steps):
            latents = self._step.run(
                None, {"latent": latents, "action": np.ascontiguousarray(actions[:, step])}
            )[0]
            out[:, step] = latents
        return out

    @property
    def to_metres(self) -> tuple[FloatArray, FloatArray]:
        """What `ground` multiplies by and adds: (D, G) and (G,)."""
        return self._weight, self._bias

    def ground(self, latents: FloatArray) -> FloatArray:
        """See `WorldModel.ground`."""
        latents = np.asarray(latents, np.float32)
        if latents.shape[-1] != self.latent_dim:
            raise ValueError(f"latents: expected a last dimension of {self.latent_dim}, got {latents.shape}")
        return latents @ self._weight + self._bias

    def spread(self, latents: FloatArray) -> FloatArray | None:
        """See `WorldModel.spread`."""
        if self._spread is None:
            return None
        latents = np.ascontiguousarray(latents, np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise ValueError(f"latents: expected (N, {self.latent_dim}), got {latents.shape}")
        return self._spread.run(None, {"latent": latents})[0]

    def _unrolled(self, latents: FloatArray, actions: FloatArray) -> FloatArray:
        """One run of the graph over `horizon` actions: (N, D), (N, horizon, A) -> (N, horizon, D)."""
        return self._rollout.run(None, {"latent": latents, "actions": actions})[0]

    def _pair(self, latents: FloatArray, actions: FloatArray, ndim: int) -> tuple[FloatArray, FloatArray]:
        latents = np.ascontiguousarray(latents, np.float32)
        actions = np.ascontiguousarray(actions, np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise ValueError(f"latents: expected (N, {self.latent_dim}), got {latents.shape}")
        if actions.ndim != ndim or len(actions) != len(latents) or actions.shape[-1] != self.action_dim:
            shape = f"({len(latents)}, {'H, ' if ndim == 3 else ''}{self.action_dim})"
            raise ValueError(f"actions: expected {shape}, got {actions.shape}")
        return latents, actions


def _tensor(tensors: dict[str, FloatArray], name: str, shape: tuple[int, ...], model: str) -> FloatArray:
    found = tensors[name].shape if name in tensors else None
    if found != shape:
        raise ModelRefused(f"{model}: {GROUNDING_FILE} {name}: expected shape {shape}, found {found}")
    return tensors[name]


def open_session(
    contents: Mapping[str, bytes],
    file: str,
    providers: list[Any],
    inputs: list[list[int | None]],
    output: list[int | None],
) -> Any:
    """An InferenceSession over `contents[file]`; ModelRefused unless its shapes are these.

    None: dynamic. ANY: of whatever fixed size.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(contents[file], options, providers=providers)
    except Exception as error:  # onnxruntime raises its own types, none of them a ValueError
        raise ModelRefused(f"{file}: expected an ONNX model that loads, found {error}") from error
    for what, nodes, expected in (
        ("inputs", session.get_inputs(), inputs),
        ("outputs", session.get_outputs(), [output]),
    ):
        found = [[size if isinstance(size, int) else None for size in node.shape] for node in nodes]
        if not _fit(found, expected):
            raise ModelRefused(f"{file}: expected {what} of shape {expected}, found {found}")
    return session


def _fit(found: list[list[int | None]], expected: list[list[int | None]]) -> bool:
    return [len(shape) for shape in found] == [len(shape) for shape in expected] and all(
        size is not None if wanted == ANY else size == wanted
        for shape, sizes in zip(found, expected, strict=True)
        for size, wanted in zip(shape, sizes, strict=True)
    )

"""SlowPolicy: any LeRobot policy, local or from the hub, behind one small interface.

This file is the only one that knows how LeRobot loads and calls a policy.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros import paths
from wm_vla_ros.types import EE_ACTION_DIM, FloatArray
from wm_vla_ros.vla.policy_manifest import PolicyRefused, read_manifest

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec

IMAGE_PREFIX = "observation.images."
STATE, ACTION = "observation.state", "action"
# Seconds per action of a policy that does not say: the stack's control period.
DEFAULT_DT = 0.02


def available() -> tuple[str, ...]:
    """Names of the policies that ship with the package."""
    return tuple(sorted(path.parent.name for path in paths.models_dir().glob("*/policy_preprocessor.json")))


def resolve(name: str) -> str:
    """A folder for a name in models/ or a path, or the hub id itself.

    Raises PolicyRefused for a name that is none of these, listing the shipped policies.
    """
    shipped = paths.models_dir() / name
    if "/" not in name and (shipped / "config.json").is_file():
        return str(shipped)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise PolicyRefused(f"{name} is no LeRobot policy: it has no config.json")
        return name
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return name
    known = ", ".join(available()) or "none"
    raise PolicyRefused(f"unknown policy {name!r}; available: {known}; or a folder, or a hub id owner/name")


class SlowPolicy:
    """A loaded policy. Not thread-safe: one caller at a time.

    cameras: names that it looks at. chunk_size, n_action_steps: actions predicted, and meant to be executed
    when it runs alone. dt: seconds per action.

    path_or_hub_id: name in models/, folder, or hub id. threads: of torch in the calling thread's process.
    device: "cpu", "cuda" or "auto". robot, cameras: when given, a checkpoint that does not fit them is
    refused. Raises PolicyRefused, a ValueError, naming every feature that does not fit.
    """

    def __init__(
        self,
        path_or_hub_id: str,
        threads: int = 1,
        device: str = "cpu",
        robot: RobotSpec | None = None,
        cameras: Sequence[str] | None = None,
    ) -> None:
        # Read when a pool starts: torch.set_num_threads does not reach worker threads, and OpenCV and the
        # tokenizers have pools of their own.
        for variable in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "RAYON_NUM_THREADS"):
            os.environ.setdefault(variable, str(threads))
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        path = resolve(path_or_hub_id)
        self.manifest = read_manifest(Path(path)) if Path(path).is_dir() else None
        if robot is not None and self.manifest is not None:
            self.manifest.check_robot(robot)
        self.device = _device(device)
        self._policy, self._before, self._after = _load(path, self.device)
        config = self._policy.config
        self.policy_type = str(config.type)
        self.chunk_size = int(config.chunk_size)
        self.n_action_steps = int(config.n_action_steps)
        self.dt = self.manifest.dt if self.manifest is not None else DEFAULT_DT
        self.instructions = tuple(self.manifest.instructions) if self.manifest is not None else ()
        self._images = {
            key.removeprefix(IMAGE_PREFIX): tuple(feature.shape)
            for key, feature in config.image_features.items()
            # SmolVLA lists cameras that it fills in by itself.
            if not key.startswith(IMAGE_PREFIX + "empty_camera")
        }
        self.cameras = tuple(self._images)
        self._check_features(config, robot, cameras)

    def infer(
        self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float32], instruction: str
    ) -> FloatArray:
        """The chunk (chunk_size, 7) for one observation; row i is meant for its time + i * dt.

        images: camera -> (H, W, 3) uint8 RGB. state: (P,). Raises ValueError when a camera is missing, a
        shape does not fit, or the instruction has words that the policy does not know, and RuntimeError
        when the policy's own output is not finite.
        """
        torch = self._torch
        batch: dict[str, Any] = {"task": instruction}
        for camera, (_, height, width) in self._images.items():
            if camera not in images:
                raise ValueError(f"the policy needs camera {camera!r}, got {sorted(images)}")
            pixels = torch.from_numpy(_fit(images[camera], height, width, camera))
            batch[IMAGE_PREFIX + camera] = pixels.permute(2, 0, 1).float() / 255.0
        state = np.asarray(state, np.float32)
        if state.shape != (self._state_dim,):
            raise ValueError(
                f"the policy needs a state of {self._state_dim} numbers, got shape {state.shape}"
            )
        batch[STATE] = torch.from_numpy(state.copy())
        with torch.inference_mode():
            chunk = self._after(self._policy.predict_action_chunk(self._before(batch)))
        actions = chunk[0].float().cpu().numpy()
        if not np.isfinite(actions).all():
            raise RuntimeError(f"the policy's output is not finite for instruction {instruction!r}")
        return actions

    def _check_features(self, config: Any, robot: RobotSpec | None, cameras: Sequence[str] | None) -> None:
        wrong = []
        state, action = config.robot_state_feature, config.action_feature
        if state is None:
            wrong.append(f"{STATE}: missing")
        if action is None or tuple(action.shape) != (EE_ACTION_DIM,):
            found = "missing" if action is None else tuple(action.shape)
            wrong.append(f"{ACTION}: expected ({EE_ACTION_DIM},), found {found}")
        if robot is not None and state is not None:
            from wm_vla_ros.robots.proprio import proprio_names

            expected = (len(proprio_names(robot)),)
            if tuple(state.shape) != expected:
                wrong.append(f"{STATE}: expected {expected}, found {tuple(state.shape)}")
        wrong += [
            f"{IMAGE_PREFIX}{camera}: cameras are {sorted(cameras)}"
            for camera in self.cameras
            if cameras is not None and camera not in cameras
        ]
        known = {STATE, ACTION, *config.image_features}
        others = {**(config.input_features or {}), **(config.output_features or {})}
        wrong += [f"{key}: the stack has no such feature" for key in others if key not in known]
        if wrong:
            raise PolicyRefused(f"policy {self.policy_type!r} does not fit: {'; '.join(wrong)}")
        self._state_dim = int(state.shape[0])


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyRefused("device 'cuda' was asked for and there is none; valid here: cpu, auto")
    if name not in ("cpu", "cuda"):
        raise PolicyRefused(f"unknown device {name!r}; valid: cpu, cuda, auto")
    return name


def _load(path: str, device: str) -> tuple[Any, Any, Any]:
    """Policy, preprocessor and postprocessor, the way LeRobot's own tools load them."""
    # LeRobot prints while it loads; stdout belongs to the command's own result.
    with contextlib.redirect_stdout(sys.stderr):
        from lerobot.configs import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        import wm_vla_ros.vla.keypoint_chunk  # noqa: F401  registers the policy type

        try:
            config = PreTrainedConfig.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise PolicyRefused(f"no LeRobot policy can be read from {path!r}: {error}") from error
        config.device = device
        policy = get_policy_class(config.type).from_pretrained(path, config=config)
        before, after = make_pre_post_processors(
            config, pretrained_path=path, preprocessor_overrides={"device_processor": {"device": device}}
        )
    for needed in ("chunk_size", "n_action_steps"):
        if not hasattr(config, needed):
            raise PolicyRefused(f"policy type {config.type!r} predicts no chunks: it has no {needed}")
    return policy, before, after


def _fit(image: NDArray[np.uint8], height: int, width: int, camera: str) -> NDArray[np.uint8]:
    """The image (H, W, 3) at the size that the policy was trained with; only its scale may differ."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{camera}: expected an (H, W, 3) uint8 image, got {image.dtype} {image.shape}")
    if image.shape[:2] == (height, width):
        return np.array(image)
    if image.shape[0] * width != image.shape[1] * height:
        raise ValueError(
            f"{camera}: the policy takes {width}x{height} images, got {image.shape[1]}x{image.shape[0]}: "
            "another aspect ratio"
        )
    import cv2

    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

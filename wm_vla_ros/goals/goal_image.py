"""Goal source `goal_image`: a picture of how the scene should look is where the arm should go.

A picture has no proprioception, and a latent of this stack is made of both. So a goal encoder, learned with
the world model frozen (`wm-vla train goal-encoder`), says which latent a picture belongs to, and how much of
each latent dimension a picture tells at all: what it does not tell (commands, joints out of sight) has no
weight in the goal. Distance in the latent as the planner's cost: DINO-WM (Zhou et al., 2024, equation 4),
V-JEPA 2-AC (Assran et al., 2025, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray, LatentGoal
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused
from wm_vla_ros.world_models.onnx_runtime import CPU, open_session
from wm_vla_ros.world_models.tensors import read_float32

GOAL_ENCODER_FILE = "goal_encoder.onnx"
GOAL_PRECISION_FILE = "goal_precision.safetensors"
INSTRUCTION = "look like the goal image"


class GoalEncoder:
    """Pictures to latents of one world model. precision: (D,), the share of each entry that it tells."""

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
        """contents: verified bytes by file name. Raises ModelRefused for a model without a goal encoder."""
        name, dim = manifest.name, manifest.latent_dim
        if GOAL_ENCODER_FILE not in contents or GOAL_PRECISION_FILE not in contents:
            raise ModelRefused(
                f"{name}: expected {GOAL_ENCODER_FILE} and {GOAL_PRECISION_FILE} for an image as the goal, "
                "found none; make them with: wm-vla train goal-encoder"
            )
        frames: list[list[int | None]] = [[1, *size, 3] for size in manifest.cameras.values()]
        self._session = open_session(contents, GOAL_ENCODER_FILE, CPU, frames, [1, dim])
        where = f"{name}: {GOAL_PRECISION_FILE}"
        precision = read_float32(contents[GOAL_PRECISION_FILE], where).get("precision")
        if precision is None or precision.shape != (dim,) or precision.min() < 0.0 or precision.max() > 1.0:
            found = None if precision is None else (precision.shape, precision.min(), precision.max())
            raise ModelRefused(f"{where}: expected ({dim},) shares between 0 and 1, found {found}")
        self.precision = precision
        self.cameras = dict(manifest.cameras)
        self._manifest = manifest

    def encode(self, images: Mapping[str, NDArray[np.uint8]]) -> FloatArray:
        """The latent (D,) of a scene that looks so: camera -> (H, W, 3) uint8 RGB of one moment.

        Raises ValueError on a missing camera, another size or dtype.
        """
        feed = {}
        for name, size in self.cameras.items():
            if name not in images:
                raise ValueError(f"goal image: no image of camera {name!r}; got {sorted(images)}")
            image = images[name]
            if image.shape != (*size, 3) or image.dtype != np.uint8:
                raise ValueError(
                    f"goal image of camera {name!r}: expected {(*size, 3)} uint8, "
                    f"got {image.shape} {image.dtype}"
                )
            feed[f"image_{name}"] = np.ascontiguousarray(image)[None]
        return self._session.run(None, feed)[0][0]

    def goal(
        self, images: Mapping[str, NDArray[np.uint8]], stamp: float, sequence: int, valid_for: float
    ) -> LatentGoal:
        """A goal of one point, from `stamp` on for `valid_for` seconds. Raises as `encode`."""
        return LatentGoal(
            stamp=stamp,
            sequence=sequence,
            instruction=INSTRUCTION,
            encoder_id=self._manifest.encoder_id,
            embeddings=self.encode(images)[None],
            dt=self._manifest.dt,
            valid_for=valid_for,
            precision=self.precision,
        )


def pictures_from_file(path: Path, cameras: Mapping[str, tuple[int, int]]) -> dict[str, NDArray[np.uint8]]:
    """The image file `path` for a model's only camera, at its size.

    cameras: name -> (height, width). Raises FileNotFoundError, or ValueError for a file that is no image, one
    of another aspect ratio, or a model with more cameras than one picture can be of.
    """
    import cv2

    if len(cameras) != 1:
        raise ValueError(
            f"one image cannot show what {len(cameras)} cameras see ({', '.join(cameras)}): "
            "give a moment of a data set"
        )
    ((camera, (height, width)),) = cameras.items()
    if not path.is_file():
        raise FileNotFoundError(f"no goal image at {path}")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"goal image: expected an image file such as a PNG, {path} is none")
    if image.shape[0] * width != image.shape[1] * height:
        raise ValueError(
            f"goal image: camera {camera!r} takes {width}x{height} images, {path} is "
            f"{image.shape[1]}x{image.shape[0]}: another aspect ratio"
        )
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return {camera: np.ascontiguousarray(small[..., ::-1])}


def pictures_from_dataset(
    root: Path, episode: int, at: float, cameras: Mapping[str, tuple[int, int]]
) -> dict[str, NDArray[np.uint8]]:
    """What all cameras saw in an episode of the data set `root`, `at` seconds after its start.

    The last frame at or before that time. Raises FileNotFoundError, or ValueError for an episode or a time
    that the data set does not have.
    """
    from wm_vla_ros.data.lerobot_reader import load_episodes

    data = load_episodes(root, tuple(cameras))
    if not 0 <= episode < data.episodes:
        raise ValueError(f"episode of {root}: expected 0 to {data.episodes - 1}, got {episode}")
    start, stop = data.bounds(episode)
    longest = (stop - 1 - start) * data.dt
    if not 0.0 <= at <= longest + 1e-9:
        raise ValueError(f"time in episode {episode} of {root}: expected 0 to {longest:.2f} s, got {at:g}")
    frame = data.row_frame[start + int(at / data.dt + 1e-6)]
    return {camera: data.images[camera][np.array([frame])][0] for camera in cameras}

"""Frozen pretrained vision, for a family that learns no encoder of its own (DINO-WM, Zhou et al., 2024).

    NAME                       vision of a world model in models/, or of one in a folder
    FOLDER, or OWNER/NAME      a vision model of transformers, local or from the hub, as safetensors
    ARCHITECTURE:FILE          a torchvision architecture by name, its weights in a safetensors file

Nothing is unpickled, and no code of a checkpoint is run: torchvision publishes its own weights as pickles
only, so an architecture needs a file. A backbone's features are a map over the image; its mean over each cell
of a 4x4 grid is kept, so that they still say where things are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_vla_ros.world_models.manifest import MANIFEST_NAME, ModelRefused, read_files, read_manifest
from wm_vla_ros.world_models.modules import Vision
from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
from wm_vla_ros.world_models.registry import available, find
from wm_vla_ros.world_models.tensors import read_float32

GRID = 4
UNSTATED = "licence not stated by its source"
# What torchvision's models were trained with (ImageNet's mean and standard deviation).
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Where the part of a torchvision model begins that no longer has a map.
_HEADS = ("avgpool", "fc", "classifier", "head", "heads", "flatten")
_VISION = "encoder.vision.0."


class Backbone(nn.Module):
    """Images (B, H, W, 3) uint8 -> (B, features) float32; never trained.

    body: images (B, 3, h, w) to a map (B, C, rows, columns). size: h and w that it takes, None for any.
    licence: of the weights, in words.
    """

    def __init__(
        self,
        body: nn.Module,
        image: tuple[int, int],
        licence: str,
        mean: tuple[float, ...] = _MEAN,
        std: tuple[float, ...] = _STD,
        size: tuple[int, int] | None = None,
    ) -> None:
        """image: (H, W) of the camera. Raises ModelRefused when the body makes no map of it."""
        super().__init__()
        self.body, self.licence, self.size = body.eval().requires_grad_(False), licence, size
        self.register_buffer("mean", 255.0 * torch.tensor(mean)[:, None, None])
        self.register_buffer("std", 255.0 * torch.tensor(std)[:, None, None])
        with torch.no_grad():
            found = self._map(torch.zeros(1, *image, 3, dtype=torch.uint8))
        if found.ndim != 4:
            raise ModelRefused(f"backbone: expected a map (1, C, rows, columns), found {tuple(found.shape)}")
        _, channels, rows, columns = found.shape
        self.register_buffer("rows", _means(rows))
        self.register_buffer("columns", _means(columns))
        self.features = channels * len(self.rows) * len(self.columns)

    def forward(self, image: Tensor) -> Tensor:
        # Two products rather than adaptive pooling, which no exporter takes where sizes do not divide.
        return (self.rows @ self._map(image) @ self.columns.T).flatten(1).float()

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: statistics of batches would be another encoder."""
        return super().train(False)

    def _map(self, image: Tensor) -> Tensor:
        pixels = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        if self.size is not None and tuple(pixels.shape[2:]) != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bilinear", align_corners=False)
        return self.body(pixels)


class Keypoints(nn.Module):
    """The convolutions of a trained world model of this package, frozen; as `Vision`."""

    def __init__(self, vision: Vision, licence: str) -> None:
        super().__init__()
        self.vision, self.licence = vision.requires_grad_(False), licence
        self.features = vision.features

    def forward(self, image: Tensor) -> Tensor:
        return self.vision(image)


def open_backbone(name: str, image: tuple[int, int]) -> Backbone | Keypoints:
    """The frozen vision called `name` for a camera of `image` (H, W) pixels.

    Raises ModelRefused for a name that is none of those above, or weights that are not there or do not fit.
    """
    architecture, colon, file = name.partition(":")
    if colon:
        return _torchvision(architecture, Path(file), image)
    if name in available() or (Path(name) / MANIFEST_NAME).is_file():
        return _of_world_model(name, image)
    if "/" in name:
        return _transformers(name, image)
    known = ", ".join(available())
    raise ModelRefused(
        f"backbone {name!r}: expected a world model ({known}), a folder or a hub id owner/name of a vision "
        "model, or a torchvision architecture with its weights as ARCHITECTURE:FILE.safetensors"
    )


def _of_world_model(name: str, image: tuple[int, int]) -> Keypoints:
    manifest = read_manifest(find(name))
    sizes = list(manifest.cameras.values())
    if tuple(image) != sizes[0]:
        raise ModelRefused(f"backbone {name}: expected images of {sizes[0]}, found {tuple(image)}")
    contents = read_files(find(name), manifest)
    if WEIGHTS_FILE not in contents:
        raise ModelRefused(f"backbone {name}: expected {WEIGHTS_FILE}, found none")
    tensors = read_float32(contents[WEIGHTS_FILE], f"{name}: {WEIGHTS_FILE}")
    own = {
        key.removeprefix(_VISION): torch.from_numpy(value.copy())
        for key, value in tensors.items()
        if key.startswith(_VISION)
    }
    if "trunk.0.weight" not in own:
        raise ModelRefused(f"backbone {name}: expected a model with convolutions of its own, found none")
    vision = Vision(*image, channels=len(own["trunk.0.weight"]), keypoints=len(own["heads.weight"]))
    vision.load_state_dict(own)
    return Keypoints(vision, manifest.licence)


def _torchvision(architecture: str, file: Path, image: tuple[int, int]) -> Backbone:
    from safetensors.torch import load_file
    from torchvision import models

    if architecture not in models.list_models(module=models):
        known = ", ".join(models.list_models(module=models))
        raise ModelRefused(f"backbone: unknown torchvision architecture {architecture!r}; valid: {known}")
    if not file.is_file():
        raise ModelRefused(f"backbone {architecture}: expected a safetensors file, found none at {file}")
    model = models.get_model(architecture, weights=None)
    try:
        model.load_state_dict(load_file(file))
    except Exception as error:  # safetensors raises a type of its own, torch a RuntimeError
        text = " ".join(str(error).split())[:400]
        raise ModelRefused(f"backbone {architecture}: {file.name} does not fit: {text}") from error
    layers = []
    for child, module in model.named_children():
        if child in _HEADS:
            break
        layers.append(module)
    try:
        return Backbone(nn.Sequential(*layers), image, _licence(file.parent))
    except RuntimeError as error:
        raise ModelRefused(
            f"backbone {architecture}: its layers before {_HEADS} make no map of an image; "
            "take a convolutional one, or a vision transformer through transformers"
        ) from error


def _transformers(name: str, image: tuple[int, int]) -> Backbone:
    from transformers import AutoImageProcessor, AutoModel

    local = Path(name).is_dir()
    given = {"trust_remote_code": False, "local_files_only": local}
    try:
        scaling = AutoImageProcessor.from_pretrained(name, **given)
        model = AutoModel.from_pretrained(name, use_safetensors=True, **given)
    except (OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())[:400]
        raise ModelRefused(
            f"backbone {name}: expected a vision model with config.json, preprocessor_config.json and "
            f"safetensors, found: {text}"
        ) from error
    side = getattr(model.config, "image_size", None)
    size = None if side is None else (side, side) if isinstance(side, int) else tuple(side)
    patch = getattr(model.config, "patch_size", None)
    return Backbone(
        _Tokens(model, patch if isinstance(patch, int) else None),
        image,
        _licence(Path(name)) if local else _hub_licence(name),
        tuple(scaling.image_mean),
        tuple(scaling.image_std),
        size,
    )


class _Tokens(nn.Module):
    """A model of transformers to the map of its last hidden state; class and register tokens come first."""

    def __init__(self, model: nn.Module, patch: int | None) -> None:
        super().__init__()
        self.model, self.patch = model, patch

    def forward(self, pixels: Tensor) -> Tensor:
        state = self.model(pixel_values=pixels).last_hidden_state
        if state.ndim == 4 or self.patch is None:
            return state
        rows, columns = pixels.shape[2] // self.patch, pixels.shape[3] // self.patch
        return state[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


def _means(size: int) -> Tensor:
    """(cells, size) weights of the mean over each of at most `GRID` cells of a line, as adaptive pooling."""
    cells = min(GRID, size)
    out = torch.zeros(cells, size)
    for cell in range(cells):
        first, last = cell * size // cells, -(-(cell + 1) * size // cells)
        out[cell, first:last] = 1.0 / (last - first)
    return out


def _licence(folder: Path) -> str:
    """What the model card beside the weights says."""
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines():
            key, colon, value = line.partition(":")
            if colon and key.strip() in ("license", "licence") and value.strip():
                return value.strip()
    return UNSTATED


def _hub_licence(name: str) -> str:
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import EntryNotFoundError

    try:
        card: Any = ModelCard.load(name)
    except (EntryNotFoundError, OSError):
        return UNSTATED
    return str(card.data.get("license") or UNSTATED)

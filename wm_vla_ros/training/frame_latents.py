"""Latents of a data set's frames, as an encoder that is being trained has them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import frames
from wm_vla_ros.training.devices import Devices
from wm_vla_ros.training.world_model_loss import augment


class FrameLatents:
    """What encoders make of rows that have an image. `look_once` first, where the encoder is frozen."""

    def __init__(self, data: EpisodeArrays, cameras: tuple[str, ...], devices: Devices) -> None:
        self._data, self._cameras, self._devices = data, cameras, devices
        self._seen: torch.Tensor | None = None

    def look_once(
        self,
        encoder: torch.nn.Module,
        rows: NDArray[np.int64],
        rng: np.random.Generator,
        sample: int = 4000,
        batch: int = 100,
    ) -> None:
        """Fit a frozen encoder to some of the training's `rows`, and keep what it sees in every frame."""
        some = rng.choice(rows, min(sample, len(rows)), replace=False)
        encoder.fit(self._images(part) for part in np.array_split(some, max(1, len(some) // batch)))
        every = self._data.frame_rows
        parts = np.array_split(every, max(1, len(every) // batch))
        self._seen = torch.cat([encoder.see(self._images(part)).cpu() for part in parts])

    def latents(
        self, encoder: torch.nn.Module, rows: NDArray[np.int64], light: np.random.Generator | None = None
    ) -> torch.Tensor:
        """(len(rows), D), with gradient and under autocast. light: what to vary the images' light with."""
        state = self._devices.tensor(self._data.states[rows])
        if self._seen is not None:
            seen = self._seen[torch.from_numpy(self._data.row_frame[rows])].to(self._devices.device)
            return encoder.fuse(seen, state)
        with self._devices.autocast():
            seen = encoder.see(self._images(rows, light))
        return encoder.fuse(seen.float(), state)

    @torch.no_grad()
    def encode(self, encoder: torch.nn.Module, rows: NDArray[np.int64], batch: int = 256) -> torch.Tensor:
        """The same without gradient and in full precision, a batch at a time."""
        out = []
        for part in np.array_split(rows, max(1, len(rows) // batch)):
            if self._seen is not None:
                out.append(self.latents(encoder, part))
            else:
                state = self._devices.tensor(self._data.states[part])
                out.append(encoder(self._images(part), state))
        return torch.cat(out)

    def _images(
        self, rows: NDArray[np.int64], light: np.random.Generator | None = None
    ) -> list[torch.Tensor]:
        images = [frames(self._data, camera, rows) for camera in self._cameras]
        return [self._devices.tensor(augment(each, light) if light else each) for each in images]

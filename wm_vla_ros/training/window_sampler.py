"""The windows that a world model is trained on: which there are, and random ones of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import columns, frame_stride, grounding_names, positions, window_starts
from wm_vla_ros.training.devices import Devices
from wm_vla_ros.training.replay import Replay
from wm_vla_ros.training.train_config import Stage, TrainConfig
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.family import Window

ROTATION = EE_ACTION_NAMES[3:6]


class WindowSampler:
    """Windows of some episodes of one data set.

    stride: ticks from one image to the next. starts: window length -> first rows (n,). positions: (N, G) as
    `sequences.positions`. replay: which windows were hard, None where all are alike.
    """

    def __init__(
        self, data: EpisodeArrays, episodes: NDArray[np.int64], config: TrainConfig, devices: Devices
    ) -> None:
        """Raises ValueError when no episode has a window long enough, or a stride is longer than a window."""
        self._data, self._config, self._devices = data, config, devices
        self.positions = positions(data)
        self.stride = frame_stride(data)
        self.replay = Replay(len(data.actions), config.priority) if config.priority else None
        self._rotation = [data.action_names.index(name) for name in ROTATION if name in data.action_names]
        strides = {-(-each // self.stride) * self.stride for each in config.strides or (self.stride,)}
        self._strides = np.array(sorted(strides))
        lengths = {config.joint.ticks, config.dynamics.ticks}
        if self._strides[-1] > min(lengths):
            raise ValueError(f"strides: expected at most {min(lengths)} ticks, got {config.strides}")
        if not config.autoregressive:
            lengths = strides
        self.starts = {ticks: window_starts(data, episodes, ticks) for ticks in lengths}
        self._contact = {ticks: self._contact_starts(ticks) for ticks in lengths}

    def later(self, stage: Stage, rng: np.random.Generator) -> NDArray[np.int64]:
        """Ticks after a window's first at which there are targets; the last is a window's length at most."""
        stride = int(self._strides[0] if len(self._strides) == 1 else rng.choice(self._strides))
        return np.arange(stride, (stage.ticks if self._config.autoregressive else stride) + 1, stride)

    def draw(
        self,
        stage: Stage,
        later: NDArray[np.int64],
        count: int,
        share: float,
        known: Mapping[str, NDArray],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.int64], Window]:
        """First rows (count,) of random windows, and what happens in them.

        later: the targets' ticks, that they are long enough for. share: of the training that is done. known:
        the family's `row_targets`.
        """
        ticks = stage.ticks if self._config.autoregressive else int(later[-1])
        starts, contact, weight = self.starts[ticks], self._contact[ticks], None
        if self.replay is not None:
            rows, importance = self.replay.draw(starts, count, share, rng)
            weight = self._devices.tensor(importance)
        else:
            rows = rng.choice(starts, count)
            if len(contact):
                moving = round(count * self._config.contact)
                rows[:moving] = rng.choice(contact, moving)
        span = rows[:, None] + np.arange(ticks + 1)
        actions = self._data.actions[span[:, :-1]]
        hidden = np.flatnonzero(rng.random(count) < self._config.hide_rotation)
        actions[np.ix_(hidden, np.arange(ticks), self._rotation)] = 0.0
        tensor = self._devices.tensor
        there = {name: tensor(values[span]) for name, values in known.items()}
        return rows, Window(tensor(actions), tensor(self.positions[span]), there, weight)

    def _contact_starts(self, ticks: int) -> NDArray[np.int64]:
        """Those of the windows in which a cube moves."""
        starts = self.starts[ticks]
        moved = np.zeros(len(starts), bool)
        for cube in columns(grounding_names(self._data), "_cube").values():
            motion = self.positions[starts + ticks][:, cube] - self.positions[starts][:, cube]
            moved |= np.linalg.norm(motion, axis=1) > self._config.loss.moved
        return starts[moved]

"""The keypoint chunk policy: where to look, conditioned on the instruction, and what to do for a second.

Image -> 4x4 patches -> residual convolutions modulated by the instruction (FiLM, Perez et al. 2018) ->
attention maps at half resolution -> expected positions (spatial soft-argmax, Levine et al. 2016), which with
proprioception and the instruction give a chunk of actions (Zhao et al. 2023), trained by an L1 loss.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor, nn

from wm_vla_ros.vla.keypoint_chunk.configuration_keypoint_chunk import PATCH, KeypointChunkConfig

_PAD_SUFFIX = "_is_pad"


class UnknownWords(ValueError):
    """An instruction with words outside the vocabulary."""


def words_of(instruction: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return re.findall(r"[a-z0-9]+", instruction.lower())


class KeypointChunkPolicy(PreTrainedPolicy):
    """LeRobot policy. Batches hold normalised `observation.state`, images in [0, 1] and "task" strings."""

    config_class = KeypointChunkConfig
    name = "keypoint_chunk"

    def __init__(self, config: KeypointChunkConfig, **kwargs: Any) -> None:
        super().__init__(config)
        config.validate_features()
        self.config: KeypointChunkConfig = config
        self._word_index = {word: index + 1 for index, word in enumerate(config.vocabulary)}
        self.model = KeypointChunkNet(config)
        self.reset()

    def get_optim_params(self) -> Any:
        """All parameters, as one group."""
        return self.parameters()

    def reset(self) -> None:
        """Forget the actions that were not executed yet."""
        self._queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """L1 loss on the chunk (B, chunk_size, A); entries that `action_is_pad` marks do not count."""
        return self.imitation(self.features(batch), batch)

    def imitation(self, features: Tensor, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of `forward`, for the features (B, F) of the batch."""
        error = (self.model.head(features) - batch[ACTION]).abs()
        padded = batch.get(ACTION + _PAD_SUFFIX)
        if padded is None:
            loss = error.mean()
        else:
            counts = (~padded).unsqueeze(-1).to(error.dtype)
            loss = (error * counts).sum() / (counts.sum() * error.shape[-1]).clamp(min=1.0)
        return loss, {"l1_loss": float(loss.detach())}

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """Normalised chunk (B, chunk_size, A)."""
        self.eval()
        return self._chunk(batch)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """Next action (B, A); infers again after n_action_steps of them."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch)
            self._queue.extend(chunk[:, : self.config.n_action_steps].transpose(0, 1))
        return self._queue.popleft()

    def tokens(self, instructions: Sequence[str]) -> Tensor:
        """(B, max_words) word numbers, 0 where there is none.

        Raises UnknownWords for words outside the vocabulary and ValueError for too many.
        """
        rows = []
        for instruction in instructions:
            words = words_of(instruction)
            unknown = [word for word in words if word not in self._word_index]
            if unknown or not words:
                raise UnknownWords(
                    f"instruction {instruction!r} has unknown words {unknown}; "
                    f"valid instructions: {'; '.join(self.config.instructions) or self.config.vocabulary}"
                )
            if len(words) > self.config.max_words:
                raise ValueError(f"instruction of {len(words)} words, at most {self.config.max_words}")
            numbers = [self._word_index[word] for word in words]
            rows.append(numbers + [0] * (self.config.max_words - len(numbers)))
        return torch.tensor(rows, device=next(self.parameters()).device)

    def features(self, batch: dict[str, Any]) -> Tensor:
        """(B, F): all that the head is told of a batch."""
        images = torch.cat([batch[key] for key in self.config.image_features], dim=1)
        return self.model.features(images, batch[OBS_STATE], self.tokens(batch["task"]))

    def _chunk(self, batch: dict[str, Any]) -> Tensor:
        return self.model.head(self.features(batch))


class KeypointChunkNet(nn.Module):
    """Images (B, 3 * cameras, H, W), state (B, P), words (B, max_words) -> features (B, F) -> (B, chunk, A).

    HEAD: the parts that make a chunk of features; all others make the features.
    """

    HEAD = ("inlet", "layers", "outlet")

    def __init__(self, config: KeypointChunkConfig) -> None:
        super().__init__()
        state, action = config.robot_state_feature, config.action_feature
        assert state is not None
        assert action is not None
        cameras, width = len(config.image_features), config.channels
        self._shape = (config.chunk_size, action.shape[0])
        self.words = nn.Embedding(len(config.vocabulary) + 1, config.text_dim, padding_idx=0)
        self.places = nn.Parameter(torch.randn(config.max_words, config.text_dim) * 0.1)
        self.text = nn.Sequential(nn.ReLU(), nn.Linear(config.text_dim, config.text_dim), nn.ReLU())
        # Patches first: a convolution with three input channels is what costs most on a CPU.
        self.stem = nn.Conv2d(3 * cameras * PATCH**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width, config.text_dim) for _ in range(config.blocks))
        # Attention at twice the trunk's resolution: a cube is a few cells wide.
        self.attention = nn.Conv2d(width, 4 * config.keypoints, 1)
        # Sharp from the start: flat maps all point at the middle, with next to no gradient.
        nn.init.normal_(self.attention.weight, std=2.0 / width**0.5)
        self.state = nn.Sequential(nn.Linear(state.shape[0], 128), nn.ReLU())
        features = 2 * config.keypoints + width + 128 + config.text_dim
        self.inlet = nn.Linear(features, config.hidden)
        self.layers = nn.ModuleList(_Layer(config.hidden) for _ in range(config.layers))
        self.outlet = nn.Linear(config.hidden, config.chunk_size * action.shape[0])
        nn.init.normal_(self.outlet.weight, std=0.01)

    def forward(self, images: Tensor, state: Tensor, words: Tensor) -> Tensor:
        return self.head(self.features(images, state, words))

    def features(self, images: Tensor, state: Tensor, words: Tensor) -> Tensor:
        """(B, F) float32: where it looks, what the image is like, proprioception, and the instruction."""
        present = (words > 0).unsqueeze(-1).to(state.dtype)
        text = (self.text(self.words(words) + self.places) * present).sum(1) / present.sum(1)
        trunk = self.stem(_patches(images - 0.5))
        for block in self.blocks:
            trunk = block(trunk, text)
        trunk = functional.relu(trunk)
        points = self._keypoints(functional.pixel_shuffle(self.attention(trunk), 2))
        # From here on in single precision: half a per cent of a position is a millimetre.
        with torch.autocast(images.device.type, enabled=False):
            pooled = trunk.float().mean(dim=(2, 3))
            return torch.cat([points, pooled, self.state(state), text.float()], dim=1)

    def head(self, features: Tensor) -> Tensor:
        """Chunk (B, chunk, A), normalised, for features (B, F)."""
        with torch.autocast(features.device.type, enabled=False):
            hidden = self.inlet(features)
            for layer in self.layers:
                hidden = layer(hidden)
            return self.outlet(functional.relu(hidden)).unflatten(1, self._shape)

    def _keypoints(self, scores: Tensor) -> Tensor:
        """Expected position (B, 2 K) of each map of scores (B, K, H, W), in [-1, 1] across the image."""
        batch, count, height, width = scores.shape
        # In single precision: half precision would round positions to whole cells.
        share = torch.softmax(scores.float().flatten(2), dim=2).unflatten(2, (height, width))
        rows = torch.linspace(-1.0, 1.0, height, device=scores.device)
        columns = torch.linspace(-1.0, 1.0, width, device=scores.device)
        x = (share.sum(2) * columns).sum(2)
        y = (share.sum(3) * rows).sum(2)
        return torch.stack([x, y], dim=2).reshape(batch, 2 * count)


def _patches(images: Tensor) -> Tensor:
    """(B, C, H, W) as (B, C * PATCH**2, H / PATCH, W / PATCH), channels last, in a single copy."""
    batch, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).unflatten(1, (-1, PATCH)).unflatten(3, (-1, PATCH))
    patches = pixels.permute(0, 1, 3, 2, 4, 5).reshape(
        batch, height // PATCH, width // PATCH, channels * PATCH**2
    )
    return patches.permute(0, 3, 1, 2)


class _Block(nn.Module):
    """Two convolutions beside an identity, scaled and shifted by the instruction in between."""

    def __init__(self, width: int, text_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(text_dim, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, value: Tensor, text: Tensor) -> Tensor:
        scale, shift = self.film(text)[:, :, None, None].chunk(2, dim=1)
        inner = self.first(functional.relu(value)) * (1.0 + scale) + shift
        return value + self.second(functional.relu(inner))


class _Layer(nn.Module):
    """Residual layer of the head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)

    def forward(self, value: Tensor) -> Tensor:
        return value + self.inner(functional.relu(self.norm(value)))

"""Configuration of the keypoint chunk policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig

PATCH = 4


@PreTrainedConfig.register_subclass("keypoint_chunk")
@dataclass
class KeypointChunkConfig(PreTrainedConfig):
    """Sizes and vocabulary. The defaults make about a million parameters.

    chunk_size, n_action_steps: control ticks predicted, and executed when the policy runs alone.
    vocabulary: the words that instructions may use. instructions: those it was trained on, for error texts.
    channels, blocks: of the convolutional trunk, at a quarter of the image's resolution. keypoints: points
    of attention in the image. hidden, layers: of the head. max_words: longest instruction.
    """

    n_obs_steps: int = 1
    chunk_size: int = 48
    n_action_steps: int = 24
    vocabulary: list[str] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    max_words: int = 12
    channels: int = 32
    blocks: int = 2
    keypoints: int = 24
    text_dim: int = 64
    hidden: int = 512
    layers: int = 2
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MEAN_STD,
        }
    )
    optimizer_lr: float = 1e-3
    optimizer_weight_decay: float = 1e-4
    optimizer_warmup_steps: int = 200
    optimizer_decay_steps: int = 6000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise ValueError(
                f"n_action_steps must be in 1..{self.chunk_size} (chunk_size), got {self.n_action_steps}"
            )
        if self.n_obs_steps != 1:
            raise ValueError(f"the policy looks at one observation, got n_obs_steps {self.n_obs_steps}")

    def validate_features(self) -> None:
        """Raises ValueError naming the feature that the network cannot use."""
        if not self.image_features or self.robot_state_feature is None or self.action_feature is None:
            raise ValueError(
                "keypoint_chunk needs an image, observation.state and action; its features are "
                f"{sorted({**(self.input_features or {}), **(self.output_features or {})})}"
            )
        for key, feature in self.image_features.items():
            channels, height, width = feature.shape
            if channels != 3 or height % PATCH or width % PATCH:
                raise ValueError(
                    f"{key} must be (3, H, W) with H and W multiples of {PATCH}, got {feature.shape}"
                )
        if not self.vocabulary:
            raise ValueError("keypoint_chunk needs a vocabulary: the words of the instructions to train on")

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW as `wm-vla train policy` uses it."""
        return AdamWConfig(lr=self.optimizer_lr, weight_decay=self.optimizer_weight_decay, grad_clip_norm=1.0)

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Warm-up, then a cosine to a hundredth."""
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.optimizer_warmup_steps,
            num_decay_steps=self.optimizer_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=self.optimizer_lr / 100,
        )

    @property
    def observation_delta_indices(self) -> None:
        """One observation, the present one."""
        return None

    @property
    def action_delta_indices(self) -> list[int]:
        """Ticks of the chunk."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """No rewards."""
        return None

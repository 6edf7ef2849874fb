"""SmolVLA's own class with random weights, written as a checkpoint without a network.

It says nothing worth hearing, but takes as long as a trained one and goes through every step of the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import EE_ACTION_DIM

_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>", "<around>", "<global>", "<end>")


@dataclass(frozen=True)
class SmolVLASizes:
    """Sizes of the vision-language model and of the action expert.

    image: pixels of the square that images are padded to. scale_factor: image tokens per side are
    image / patch / scale_factor. layers: of the language model that are used. denoising: flow matching steps.
    """

    vision: Mapping[str, int]
    text: Mapping[str, int]
    image: int
    patch: int
    scale_factor: int
    layers: int
    denoising: int
    tokens: int
    chunk: int


# Of lerobot/smolvla_base (Shukor et al., 2025) over SmolVLM2-500M: 450 million parameters.
FULL = SmolVLASizes(
    vision={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    text={
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "vocab_size": 49280,
    },
    image=512,
    patch=16,
    scale_factor=4,
    layers=16,
    denoising=10,
    tokens=48,
    chunk=50,
)


def write_random_smolvla(
    folder: Path, sizes: SmolVLASizes, robot: RobotSpec, cameras: Sequence[str], seed: int = 0
) -> Path:
    """Make the checkpoint folder/policy and return its path. `folder` has to stay while it is loaded."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    _write_language_model(folder / "vlm", sizes)
    state, pixels = len(proprio_names(robot)), (3, sizes.image, sizes.image)
    config = make_policy_config(
        "smolvla",
        chunk_size=sizes.chunk,
        n_action_steps=sizes.chunk // 2,
        vlm_model_name=str(folder / "vlm"),
        num_vlm_layers=sizes.layers,
        num_steps=sizes.denoising,
        resize_imgs_with_padding=(sizes.image, sizes.image),
        max_state_dim=max(32, state),
        max_action_dim=32,
        tokenizer_max_length=sizes.tokens,
        device="cpu",
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (state,)),
            **{f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, pixels) for name in cameras},
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (EE_ACTION_DIM,))},
    )
    torch.manual_seed(seed)
    get_policy_class("smolvla")(config).save_pretrained(folder / "policy")
    stats = {
        "observation.state": {"mean": torch.zeros(state), "std": torch.ones(state)},
        "action": {"mean": torch.zeros(EE_ACTION_DIM), "std": torch.full((EE_ACTION_DIM,), 0.01)},
    }
    for pipeline in make_pre_post_processors(config, dataset_stats=stats):
        pipeline.save_pretrained(folder / "policy")
    return folder / "policy"


def _write_language_model(folder: Path, sizes: SmolVLASizes) -> None:
    """What SmolVLA reads from the folder of its vision-language model: configuration and processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    words = (*_SPECIAL, "touch", "push", "the", "red", "green", "blue", "yellow", "cube", "pad", "to")
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<around>",
            "global_image_token": "<global>",
            "end_of_utterance_token": "<end>",
        },
    )
    text: dict[str, Any] = {"model_type": "llama", "pad_token_id": 0, **sizes.text}
    SmolVLMConfig(
        vision_config={**sizes.vision, "image_size": sizes.image, "patch_size": sizes.patch},
        text_config=text,
        scale_factor=sizes.scale_factor,
        image_token_id=vocabulary["<image>"],
    ).save_pretrained(folder)
    SmolVLMProcessor(SmolVLMImageProcessor(), fast, SmolVLMVideoProcessor()).save_pretrained(folder)

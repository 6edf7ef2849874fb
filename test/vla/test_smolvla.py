"""SmolVLA's own class, tiny and with random weights, goes through the same adapter, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.vla.policy import SlowPolicy

CHUNK, SIZE, STATE = 10, 32, 18
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>", "<around>", "<global>", "<end>")


def make_language_model(folder: Path) -> None:
    """What SmolVLA reads from the folder of its vision-language model: configuration and processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    vocabulary = {word: index for index, word in enumerate((*SPECIAL, "touch", "the", "red", "cube"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(
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
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": len(vocabulary),
        "pad_token_id": 0,
    }
    SmolVLMConfig(
        vision_config={**vision, "image_size": SIZE, "patch_size": 8},
        text_config=text,
        scale_factor=2,
        image_token_id=vocabulary["<image>"],
    ).save_pretrained(folder)
    SmolVLMProcessor(SmolVLMImageProcessor(), words, SmolVLMVideoProcessor()).save_pretrained(folder)


@pytest.mark.slow
def test_smolvla_runs_behind_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    make_language_model(tmp_path / "vlm")
    config = make_policy_config(
        "smolvla",
        chunk_size=CHUNK,
        n_action_steps=CHUNK // 2,
        vlm_model_name=str(tmp_path / "vlm"),
        num_vlm_layers=2,
        num_steps=2,
        resize_imgs_with_padding=(SIZE, SIZE),
        max_state_dim=STATE,
        max_action_dim=7,
        tokenizer_max_length=8,
        empty_cameras=1,
        device="cpu",
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
            "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
    )
    folder = tmp_path / "policy"
    torch.manual_seed(0)
    get_policy_class("smolvla")(config).save_pretrained(folder)
    stats = {
        "observation.state": {"mean": torch.zeros(STATE), "std": torch.ones(STATE)},
        "action": {"mean": torch.full((7,), 5.0), "std": torch.full((7,), 0.01)},
    }
    for pipeline in make_pre_post_processors(config, dataset_stats=stats):
        pipeline.save_pretrained(folder)

    policy = SlowPolicy(str(folder), robot=load_robot("so101"), cameras=("front", "wrist"))
    # The camera that SmolVLA fills in by itself is not one that the stack has to have.
    assert (policy.policy_type, policy.cameras, policy.chunk_size) == ("smolvla", ("front",), CHUNK)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    chunk = policy.infer({"front": image}, np.zeros(STATE, np.float32), "touch the red cube")
    assert chunk.shape == (CHUNK, 7)
    # Its own postprocessor has been applied: actions are in the data's units.
    np.testing.assert_allclose(chunk, 5.0, atol=0.2)

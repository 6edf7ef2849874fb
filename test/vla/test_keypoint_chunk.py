"""The small policy is a LeRobot policy in every respect, and it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

from wm_vla_ros.vla.keypoint_chunk import KeypointChunkConfig
from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy, UnknownWords

SIZE, STATE, CHUNK = 32, 5, 6
WORDS = ["blue", "cube", "red", "the", "touch"]
STATS = {
    "observation.state": {"mean": torch.arange(5.0), "std": torch.full((5,), 2.0)},
    "action": {"mean": torch.tensor([0.1] * 6 + [0.0]), "std": torch.tensor([0.5] * 6 + [0.0])},
}


def config(**changes: object) -> KeypointChunkConfig:
    values: dict = {
        "chunk_size": CHUNK,
        "n_action_steps": 3,
        "vocabulary": WORDS,
        "instructions": ["touch the red cube", "touch the blue cube"],
        "channels": 16,
        "blocks": 1,
        "keypoints": 6,
        "hidden": 64,
        "layers": 1,
        "device": "cpu",
        "push_to_hub": False,
        "input_features": {
            "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
            "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (7,))},
    }
    return KeypointChunkConfig(**(values | changes))


def policy() -> KeypointChunkPolicy:
    torch.manual_seed(0)
    return KeypointChunkPolicy(config()).eval()


def batch(count: int, seed: int = 0) -> dict:
    """Images with a red and a blue square; the action points at the one that is named."""
    rng = np.random.default_rng(seed)
    images = torch.full((count, 3, SIZE, SIZE), 0.3)
    targets = torch.zeros(count, CHUNK, 7)
    tasks = []
    for row in range(count):
        named = int(rng.integers(2))
        tasks.append(f"touch the {('red', 'blue')[named]} cube")
        for colour in range(2):
            x, y = rng.integers(2, SIZE - 8, 2)
            images[row, :, y : y + 6, x : x + 6] = 0.05
            images[row, 2 * colour, y : y + 6, x : x + 6] = 0.9
            if colour == named:
                targets[row, :, 0], targets[row, :, 1] = float(x) / 16 - 0.7, float(y) / 16 - 0.7
    state = torch.zeros(count, STATE)
    return {"observation.images.front": images, "observation.state": state, "task": tasks, "action": targets}


def save(folder: Path) -> KeypointChunkPolicy:
    made = policy()
    made.save_pretrained(folder)
    for pipeline in make_pre_post_processors(made.config, dataset_stats=STATS):
        pipeline.save_pretrained(folder)
    return made


def test_lerobot_makes_it_by_name() -> None:
    assert get_policy_class("keypoint_chunk") is KeypointChunkPolicy
    assert isinstance(
        make_policy_config("keypoint_chunk", chunk_size=10, n_action_steps=5), KeypointChunkConfig
    )


def test_lerobots_own_from_pretrained_gives_it_back_with_its_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = save(tmp_path)
    read = PreTrainedConfig.from_pretrained(tmp_path)
    assert read.type == "keypoint_chunk"
    loaded = get_policy_class(read.type).from_pretrained(tmp_path, config=read, strict=True)
    before, after = make_pre_post_processors(read, pretrained_path=str(tmp_path))
    raw = batch(1)
    single = {"observation.state": torch.arange(5.0) + 2.0, "task": raw["task"][0]}
    single["observation.images.front"] = raw["observation.images.front"][0]
    prepared = before(single)
    torch.testing.assert_close(prepared["observation.state"], torch.ones(1, 5))
    assert prepared["task"] == raw["task"]
    chunk = loaded.predict_action_chunk(prepared)
    torch.testing.assert_close(chunk, made.predict_action_chunk(prepared))
    actions = after(chunk)
    torch.testing.assert_close(actions[..., :6], chunk[..., :6] * 0.5 + 0.1)
    # A dimension that the demonstrations never use comes out as exactly its mean, whatever the net says.
    assert not actions[..., 6].any()


def test_the_instruction_changes_what_it_does_and_word_order_counts() -> None:
    made, observation = policy(), batch(1)
    torch.nn.init.normal_(made.model.outlet.weight, std=0.5)
    chunks = [
        made.predict_action_chunk({**observation, "task": [text]})
        for text in ("touch the red cube", "touch the blue cube", "cube red the touch")
    ]
    assert (chunks[0] - chunks[1]).abs().max() > 1e-3
    assert (chunks[0] - chunks[2]).abs().max() > 1e-3


@pytest.mark.parametrize("text", ["touch the purple cube", ""])
def test_unknown_words_are_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(UnknownWords, match="valid instructions: touch the red cube; touch the blue cube"):
        policy().predict_action_chunk({**batch(1), "task": [text]})


def test_padded_actions_do_not_count() -> None:
    made, observation = policy(), batch(4)
    observation["action_is_pad"] = torch.zeros(4, CHUNK, dtype=torch.bool)
    observation["action_is_pad"][:, 4:] = True
    loss, _ = made.forward(observation)
    observation["action"][:, 4:] = 1e6
    torch.testing.assert_close(made.forward(observation)[0], loss)


def test_select_action_executes_part_of_each_chunk() -> None:
    made = policy()
    observation = batch(1)
    first = made.predict_action_chunk(observation)
    other = batch(1, seed=5)
    second = made.predict_action_chunk(other)
    made.reset()
    taken = [made.select_action(observation), *(made.select_action(other) for _ in range(3))]
    torch.testing.assert_close(torch.stack(taken[:3], 1), first[:, :3])
    torch.testing.assert_close(taken[3], second[:, 0])


def test_it_learns_to_point_at_the_object_that_is_named() -> None:
    """Vision and language together: neither the picture nor the words alone give the answer."""
    made = policy()
    optimiser = torch.optim.AdamW(made.parameters(), lr=3e-3)
    before = made.forward(batch(128, seed=99))[1]["l1_loss"]
    for step in range(250):
        loss, _ = made.forward(batch(32, seed=step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = made.forward(batch(128, seed=99))[1]["l1_loss"]
    assert after < 0.35 * before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_action_steps": 7}, "n_action_steps must be in 1..6"),
        ({"n_obs_steps": 2}, "n_obs_steps 2"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_features_that_do_not_fit_are_named() -> None:
    odd = {
        "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
        "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 30, 32)),
    }
    with pytest.raises(ValueError, match=r"observation.images.front must be .* got \(3, 30, 32\)"):
        KeypointChunkPolicy(config(input_features=odd))
    with pytest.raises(ValueError, match="needs an image"):
        KeypointChunkPolicy(config(input_features={}))
    with pytest.raises(ValueError, match="needs a vocabulary"):
        KeypointChunkPolicy(config(vocabulary=[]))

"""A trained-looking policy folder, small enough to make for every test module."""

from __future__ import annotations

from pathlib import Path

import pytest

CHUNK, EXECUTE, SIZE = 8, 4, 32


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy for the shipped robot with random weights, with its processors and its manifest."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import make_pre_post_processors

    from wm_vla_ros.robots.proprio import proprio_names
    from wm_vla_ros.robots.spec import load_robot
    from wm_vla_ros.types import EE_ACTION_NAMES, EE_DELTA
    from wm_vla_ros.vla.keypoint_chunk import KeypointChunkConfig
    from wm_vla_ros.vla.keypoint_chunk.modeling_keypoint_chunk import KeypointChunkPolicy
    from wm_vla_ros.vla.policy_manifest import PolicyManifest, describe_files

    robot = load_robot("so101")
    names = proprio_names(robot)
    config = KeypointChunkConfig(
        chunk_size=CHUNK,
        n_action_steps=EXECUTE,
        vocabulary=["cube", "red", "the", "touch"],
        instructions=["touch the red cube"],
        channels=16,
        blocks=1,
        keypoints=4,
        hidden=32,
        layers=1,
        device="cpu",
        push_to_hub=False,
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (len(names),)),
            "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
    )
    stats = {
        "observation.state": {"mean": torch.zeros(len(names)), "std": torch.ones(len(names))},
        "action": {"mean": torch.zeros(7), "std": torch.full((7,), 0.1)},
    }
    folder = tmp_path_factory.mktemp("policies") / "tiny"
    torch.manual_seed(1)
    KeypointChunkPolicy(config).save_pretrained(folder)
    for pipeline in make_pre_post_processors(config, dataset_stats=stats):
        pipeline.save_pretrained(folder)
    PolicyManifest(
        name="tiny",
        policy_type="keypoint_chunk",
        robot=robot.name,
        cameras={"front": [SIZE, SIZE]},
        proprio_names=list(names),
        action_space=EE_DELTA,
        action_names=list(EE_ACTION_NAMES),
        translation_scale=robot.translation_scale,
        rotation_scale=robot.rotation_scale,
        dt=robot.dt,
        instructions=config.instructions,
        datasets=[],
        command="",
        training={},
        licence="Apache-2.0",
        version="0",
        files=describe_files(folder),
    ).write(folder)
    return folder

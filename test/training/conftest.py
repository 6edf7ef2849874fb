"""Data sets of other shapes than this package records, written by LeRobot itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.data.video_shard import CODEC

ROWS, EPISODES, FPS = 32, 6, 50


def record(root: Path, robot: str, action_dim: int, cameras: tuple[str, ...], state: bool = True) -> Path:
    """A point per action dimension that goes where it is told, seen as a bright row by every camera."""
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    def vector(names: list[str] | None) -> dict:
        return {"dtype": "float32", "shape": (action_dim,), "names": names}

    features: dict = {"action": vector(None)}
    if state:
        features["observation.state"] = vector([f"joint_{n}" for n in range(action_dim)])
    for camera in cameras:
        shape = {"dtype": "video", "shape": (32, 40, 3), "names": ["height", "width", "channels"]}
        features[f"observation.images.{camera}"] = shape
    dataset = LeRobotDataset.create(
        "local/made",
        FPS,
        features,
        root=root,
        robot_type=robot,
        use_videos=bool(cameras),
        # LeRobot's own choice, SVT-AV1, puts the thread that calls it under SCHED_FIFO 99 where it may:
        # whatever the test process did after that would stop the machine.
        rgb_encoder=RGBEncoderConfig(vcodec=CODEC),
    )
    rng = np.random.default_rng(0)
    for episode in range(EPISODES):
        where = rng.uniform(-100, 100, action_dim).astype(np.float32)
        speed = rng.uniform(-5, 5, action_dim).astype(np.float32)
        for row in range(ROWS):
            if row % 8 == 0:
                speed = rng.uniform(-5, 5, action_dim).astype(np.float32)
            frame = {"action": speed, "task": ("go left", "go right")[episode % 2]}
            if state:
                frame["observation.state"] = where.copy()
            for number, camera in enumerate(cameras):
                image = np.full((32, 40, 3), 40, np.uint8)
                middle = int(np.clip(16 + where[number % action_dim] / 10, 2, 29))
                image[middle - 2 : middle + 3] = 220
                frame[f"observation.images.{camera}"] = image
            dataset.add_frame(frame)
            where = where + speed
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="session")
def planar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2-D action, state alone, of a robot with a name that nobody here knows."""
    return record(tmp_path_factory.mktemp("recorded") / "planar", "push T", 2, ())


@pytest.fixture(scope="session")
def bimanual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14-D action, three cameras."""
    cameras = ("top", "left_wrist", "right_wrist")
    return record(tmp_path_factory.mktemp("recorded") / "bimanual", "aloha", 14, cameras)


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One camera, and no state."""
    return record(tmp_path_factory.mktemp("recorded") / "blind", "rover", 2, ("eye",), state=False)

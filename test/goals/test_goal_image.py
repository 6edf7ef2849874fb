"""A picture as a goal: what is refused, and that the arm goes where the picture has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros.goals.goal_image import (
    GOAL_ENCODER_FILE,
    GOAL_PRECISION_FILE,
    GoalEncoder,
    pictures_from_dataset,
    pictures_from_file,
)
from wm_vla_ros.lab.goal_images import COSTS, Place, towards_image
from wm_vla_ros.rig.towards_goal import TowardsGoal
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.types import AppliedAction, LatentGoal, Observation
from wm_vla_ros.world_models.manifest import Manifest, ModelRefused

cv2 = pytest.importorskip("cv2")

CAMERAS = {"front": (32, 40)}


class TestPicturesFromAFile:
    def test_is_read_as_rgb_at_the_cameras_size(self, tmp_path: Path) -> None:
        """Twice the size, a red left half: in the channel order of the stack, and no half swapped."""
        image = np.zeros((64, 80, 3), np.uint8)
        image[:, :40, 2] = 200  # OpenCV writes BGR
        cv2.imwrite(str(tmp_path / "goal.png"), image)
        picture = pictures_from_file(tmp_path / "goal.png", CAMERAS)["front"]
        assert picture.shape == (32, 40, 3)
        np.testing.assert_array_equal(picture[5, 5], [200, 0, 0])
        np.testing.assert_array_equal(picture[5, 35], [0, 0, 0])

    def test_what_is_no_image_of_the_camera_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no goal image at .*nowhere.png"):
            pictures_from_file(tmp_path / "nowhere.png", CAMERAS)
        (tmp_path / "words.png").write_text("words")
        with pytest.raises(ValueError, match="expected an image file such as a PNG"):
            pictures_from_file(tmp_path / "words.png", CAMERAS)
        cv2.imwrite(str(tmp_path / "square.png"), np.zeros((32, 32, 3), np.uint8))
        with pytest.raises(ValueError, match="takes 40x32 images, .* is 32x32: another aspect ratio"):
            pictures_from_file(tmp_path / "square.png", CAMERAS)
        with pytest.raises(ValueError, match="one image cannot show what 2 cameras see"):
            pictures_from_file(tmp_path / "square.png", {"front": (32, 32), "wrist": (32, 32)})


def test_a_moment_of_a_data_set_is_the_frame_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two episodes of 6 rows at 50 Hz with a frame every second row; frames are numbered by their pixels."""
    frames = np.zeros((6, 32, 40, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    data = SimpleNamespace(
        episodes=2,
        dt=0.02,
        bounds=lambda episode: (6 * episode, 6 * episode + 6),
        row_frame=np.arange(12) // 2,
        images={"front": frames},
    )
    monkeypatch.setattr("wm_vla_ros.data.lerobot_reader.load_episodes", lambda root, cameras: data)
    for at, frame in ((0.0, 3), (0.02, 3), (0.04, 4), (0.1, 5)):
        assert pictures_from_dataset(Path("x"), 1, at, CAMERAS)["front"][0, 0, 0] == frame
    with pytest.raises(ValueError, match="expected 0 to 0.10 s, got 0.2"):
        pictures_from_dataset(Path("x"), 1, 0.2, CAMERAS)
    with pytest.raises(ValueError, match="episode of x: expected 0 to 1, got 2"):
        pictures_from_dataset(Path("x"), 2, 0.0, CAMERAS)


class TestGoalEncoder:
    def contents(self, precision: np.ndarray | None = None) -> dict[str, bytes]:
        """An encoder that says the mean of each colour and the number of pixels, of a latent of 4."""
        torch = pytest.importorskip("torch")
        from safetensors.numpy import save

        from wm_vla_ros.world_models.export import onnx_of

        class Colours(torch.nn.Module):
            def forward(self, image):
                mean = image.float().mean((1, 2))
                return torch.cat([mean, torch.ones_like(mean[:, :1])], 1)

        weights = np.array([1.0, 0.5, 0.0, 0.0], np.float32) if precision is None else precision
        onnx = onnx_of(Colours(), (torch.zeros(1, 32, 40, 3, dtype=torch.uint8),), ["image_front"])
        return {GOAL_ENCODER_FILE: onnx, GOAL_PRECISION_FILE: save({"precision": weights})}

    @pytest.fixture
    def manifest(self, spec: RobotSpec) -> Manifest:
        return SimpleNamespace(name="toy", latent_dim=4, cameras=CAMERAS, encoder_id="toy-1", dt=spec.dt)

    def test_a_goal_is_one_point_weighed_by_what_a_picture_tells(self, manifest: Manifest) -> None:
        image = np.zeros((32, 40, 3), np.uint8)
        image[..., 1] = 30
        goal = GoalEncoder(manifest, self.contents()).goal({"front": image}, 2.0, 7, valid_for=3.0)
        np.testing.assert_allclose(goal.embeddings, [[0, 30, 0, 1]])
        np.testing.assert_allclose(goal.precision, [1.0, 0.5, 0.0, 0.0])
        assert (goal.stamp, goal.sequence, goal.valid_for, goal.encoder_id) == (2.0, 7, 3.0, "toy-1")

    def test_a_model_without_one_says_how_to_get_it(self, manifest: Manifest) -> None:
        with pytest.raises(
            ModelRefused, match="toy: expected goal_encoder.onnx .* wm-vla train goal-encoder"
        ):
            GoalEncoder(manifest, {})

    @pytest.mark.parametrize(
        "bad", [np.ones(3, np.float32), np.full(4, 1.5, np.float32), -np.ones(4, np.float32)]
    )
    def test_precision_that_is_no_share_is_refused(self, manifest: Manifest, bad: np.ndarray) -> None:
        with pytest.raises(ModelRefused, match=r"expected \(4,\) shares between 0 and 1"):
            GoalEncoder(manifest, self.contents(bad))

    def test_other_pictures_are_refused(self, manifest: Manifest) -> None:
        encoder = GoalEncoder(manifest, self.contents())
        with pytest.raises(ValueError, match="no image of camera 'front'; got \\['wrist'\\]"):
            encoder.encode({"wrist": np.zeros((32, 40, 3), np.uint8)})
        with pytest.raises(ValueError, match=r"expected \(32, 40, 3\) uint8, got \(40, 32, 3\)"):
            encoder.encode({"front": np.zeros((40, 32, 3), np.uint8)})


class SeesTheTip:
    """A goal encoder of the exact linear model: its pictures are tips in metres."""

    def __init__(self, model, precision: np.ndarray | None = None) -> None:
        self.model, self.precision = model, precision

    def goal(self, images: Mapping, stamp: float, sequence: int, valid_for: float) -> LatentGoal:
        latent = self.model.latent(images["front"])[None]
        model = self.model
        return LatentGoal(
            stamp, sequence, "look", model.encoder_id, latent, model.dt, valid_for, precision=self.precision
        )


def test_the_arm_goes_to_where_the_picture_has_it_by_latent_distance_alone(
    linear_model, spec: RobotSpec
) -> None:
    """On exact dynamics, 2 s: to under 5 mm. An arm without a picture gets no plan."""
    start, wanted = np.array([0.2, 0.0, 0.1]), np.array([0.24, 0.06, 0.08])
    found = {}
    for name, images in {"shown": {"front": wanted}, "not": None}.items():
        goal = None if images is None else towards_image(images, SeesTheTip(linear_model))
        driver = TowardsGoal(goal, linear_model, spec, COSTS["latent"])
        driver.start(Place("goal_image", "look", "", None, 0.02, 4.0, tuple(wanted)))
        tip, plan, plans = start.copy(), None, 0
        for tick in range(100):
            now = tick * spec.dt
            state = np.zeros(18, np.float32)
            state[12:15] = state[15:18] = tip
            driver.on_observation(Observation(now, {}, state), now)
            driver.on_tip(tip, now)
            row = None if plan is None else plan.index_at(now)
            action = np.zeros(7, np.float32) if row is None else plan.actions[row]
            driver.on_applied(AppliedAction(now, tick, "mpc", action, ("joint",), np.zeros(1)))
            tip = tip + action[:3] * spec.translation_scale
            plan = driver.tick(now + 0.004)
            plans += plan is not None
        found[name] = (plans, float(np.linalg.norm(tip - wanted)))
    assert found["shown"][0] > 90
    assert found["shown"][1] < 0.005
    assert found["not"] == (0, pytest.approx(float(np.linalg.norm(start - wanted))))

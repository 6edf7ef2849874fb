"""The simulated table: what a reset promises, what the cameras see, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from wm_vla_ros.sim.world import CAMERAS, SimWorld
from wm_vla_ros.tasks.task import CUBE_SIZE, CUBES, OBJECT_STATE_NAMES, task_for_seed


def in_image(world: SimWorld, camera: str, point) -> np.ndarray:
    """(x, y) of `point` in the image, -1..1 from left to right and bottom to top."""
    rotation, position, fovy = world.camera_pose(camera)
    x, y, z = rotation.T @ (np.asarray(point) - position)
    assert z < 0, "behind the camera"
    return np.array([x, y]) / -z / np.tan(np.radians(fovy) / 2)


@pytest.mark.parametrize("name", ["reach", "push"])
def test_all_objects_are_in_the_front_camera_s_view(world, name: str) -> None:
    for seed in range(40):
        world.reset(seed, task_for_seed(name, seed))
        for centre in world.cubes().values():
            for corner in np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * CUBE_SIZE:
                assert (
                    np.abs(in_image(world, "front", centre + corner)).max() < 1.05
                )  # a corner may lose 2 pixels
        for centre in (*world.pads().values(), world.tip()):
            assert np.abs(in_image(world, "front", centre)).max() < 0.95


def test_a_cube_is_drawn_where_the_camera_pose_says(world) -> None:
    """Overlays and occlusion checks project with `camera_pose`: it has to be the renderer's own."""
    channel = {"red": 0, "green": 1, "blue": 2}
    hits = []
    for seed in range(8):
        world.reset(seed)
        image = world.render("front")
        for name, centre in world.cubes().items():
            x, y = in_image(world, "front", centre)
            pixel = image[int((1 - y) / 2 * 96), int((1 + x) / 2 * 96)].astype(int)
            hits.append(np.argmax(pixel) == channel[name] and np.ptp(pixel) > 40)
    assert np.mean(hits) > 0.85  # the arm may stand before one


def test_an_image_is_rgb_of_the_size_asked_for(spec) -> None:
    world = SimWorld(spec, width=64, height=48)
    for camera in CAMERAS:
        image = world.render(camera)
        assert image.shape == (48, 64, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10
    world.close()


def test_images_are_the_caller_s_own_and_reproducible(spec, world) -> None:
    world.reset(3)
    first = {camera: world.render(camera) for camera in CAMERAS}
    copies = {camera: image.copy() for camera, image in first.items()}
    world.reset(4)
    world.step(200)
    assert np.abs(world.render("front").astype(int) - first["front"]).max() > 50
    world.reset(3)
    other = SimWorld(spec, seed=3)
    for camera in CAMERAS:
        np.testing.assert_array_equal(first[camera], copies[camera])
        np.testing.assert_array_equal(world.render(camera), first[camera])
        np.testing.assert_array_equal(other.render(camera), first[camera])
    other.close()


def test_an_appearance_changes_the_image_and_nothing_else(world) -> None:
    world.reset(3)
    before, poses = world.render("front"), world.object_poses()
    world.set_appearance(9)
    world.forward()
    np.testing.assert_array_equal(world.object_poses(), poses)
    assert np.abs(world.render("front").astype(int) - before).mean() > 1.0
    world.set_appearance(3)
    world.forward()
    np.testing.assert_array_equal(world.render("front"), before)


def test_an_unknown_camera_lists_the_others(world) -> None:
    with pytest.raises(ValueError, match="unknown camera 'left'; valid: front, wrist"):
        world.render("left")


def test_an_episode_begins_at_rest_where_the_layout_says(world) -> None:
    """Nothing falls, slides or springs apart in the first second, so that every motion is the arm's doing."""
    for seed in range(12):
        task = task_for_seed("push", seed)
        layout = world.reset(seed, task)
        assert np.linalg.norm(world.tip() - layout.tip) < 2e-4
        tip, cubes = world.tip(), world.cubes()
        for name, (x, y, _) in layout.cubes.items():
            np.testing.assert_allclose(cubes[name], [x, y, CUBE_SIZE / 2], atol=1e-6)
        assert not task.success(tip, cubes, world.pads())
        world.step(500)
        assert np.linalg.norm(world.tip() - tip) < 4e-3
        for name in CUBES:
            assert np.linalg.norm(world.cubes()[name] - cubes[name]) < 5e-4
        assert np.abs(world.joint_velocities()).max() < 0.02


def test_the_same_targets_lead_to_the_same_state(spec, world) -> None:
    states = []
    for _ in range(2):
        world.reset(5)
        for tick in range(100):
            world.set_targets(spec.home + 0.2 * np.sin(0.1 * tick))
            world.step()
        states.append(np.concatenate([world.joint_positions(), world.object_poses().ravel()]))
    np.testing.assert_array_equal(states[0], states[1])


@pytest.mark.parametrize("bad", [[np.nan] + [0.0] * 5, [np.inf] + [0.0] * 5, [0.0] * 5, [[0.0] * 6], []])
def test_bad_targets_are_refused_and_the_old_ones_stay(world, bad) -> None:
    """MuJoCo itself would zero every control when one is bad: the arm would drop to its zero pose."""
    world.reset(1)
    before = world.joint_targets()
    with pytest.raises(ValueError, match="6 finite numbers"):
        world.set_targets(bad)
    np.testing.assert_array_equal(world.joint_targets(), before)


def test_the_servos_go_where_they_are_sent(spec, world) -> None:
    world.reset(2)
    world.set_targets(spec.home)
    world.step(750)
    np.testing.assert_allclose(world.joint_positions(), spec.home, atol=0.02)
    assert world.warnings() == 0


def test_tip_and_joints_are_of_the_same_instant(spec, world, kinematics) -> None:
    """After mj_step MuJoCo's bodies are one substep older than its joints."""
    world.reset(6)
    world.set_targets(spec.home)
    for _ in range(5):
        world.step()
        np.testing.assert_allclose(world.tip(), kinematics.tip_position(world.joint_positions()), atol=1e-9)
        for pose, cube in zip(world.object_poses(), world.cubes().values(), strict=True):
            np.testing.assert_allclose(pose[:3], cube, atol=1e-9)


def test_a_world_can_be_shown_in_another_s_state(spec, world) -> None:
    """The camera process draws what the driver process simulates."""
    world.reset(6)
    world.set_targets(spec.home)
    world.step(40)
    other = SimWorld(spec, seed=6)
    other.set_joint_positions(world.joint_positions())
    other.set_object_poses(world.object_poses())
    other.forward()
    np.testing.assert_array_equal(other.render("front"), world.render("front"))
    np.testing.assert_allclose(other.tip(), world.tip(), atol=1e-9)
    other.close()


def test_object_state_is_laid_out_as_its_names(world) -> None:
    world.reset(4)
    named = dict(zip(OBJECT_STATE_NAMES, world.object_state(), strict=True))
    for cube, position in world.cubes().items():
        assert [named[f"{cube}_cube.{axis}"] for axis in "xyz"] == pytest.approx(position, abs=1e-6)
    for pad, position in world.pads().items():
        assert [named[f"{pad}_pad.{axis}"] for axis in "xyz"] == pytest.approx(position, abs=1e-6)


def test_divergence_is_counted_not_hidden(world, monkeypatch, tmp_path) -> None:
    """MuJoCo resets itself when it diverges; the count is how anybody can know."""
    monkeypatch.chdir(tmp_path)  # it writes a log where it runs
    world.reset(1)
    assert world.warnings() == 0
    world.data.qvel[0] = 1e12
    world.step(3)
    assert world.warnings() > 0
    world.reset(1)
    assert world.warnings() == 0


LEAVE_WITHOUT_CLOSING = """
import weakref
class Early: pass
early = Early()
weakref.finalize(early, int)  # as torch does: its exit hook is then older than MuJoCo's
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.sim.world import SimWorld
print(SimWorld(load_robot("so101")).render("front").shape)
world = SimWorld(load_robot("so101"))
world.render("front")
"""


def test_a_program_may_end_without_closing_its_worlds() -> None:
    """The GL library used to be gone before the renderer was, with three tracebacks as a goodbye."""
    done = subprocess.run(
        [sys.executable, "-c", LEAVE_WITHOUT_CLOSING],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "(96, 96, 3)\n")
    assert "Traceback" not in done.stderr

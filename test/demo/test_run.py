"""The demo's judgement and its film: what counts as done, and where a point in space is in the picture."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.demo.film import HEIGHT, WIDTH, project, write_video
from wm_vla_ros.demo.loop_plot import plot_loop
from wm_vla_ros.demo.run import Leg, LegResult, Truth, demo_figures, legs
from wm_vla_ros.recording import Moment, Recording, TimeSpan
from wm_vla_ros.robots.spec import available_robots, load_robot
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import from_instruction
from wm_vla_ros.types import AppliedAction, LoopStats

SPEC = load_robot(available_robots()[0])
REACH, PUSH = "touch the red cube", "push the blue cube to the green pad"


def moment_of(world: SimWorld, stamp: float) -> Moment:
    return Moment(stamp, world.joint_positions(), world.object_poses())


def test_the_legs_are_two_reaches_and_a_push_in_scenes_of_their_own():
    plan = legs(100)
    assert [from_instruction(leg.instruction).name for leg in plan] == ["reach", "reach", "push"]
    assert len({leg.seed for leg in plan}) == 3


@pytest.mark.parametrize("instruction", [REACH, PUSH])
def test_the_truth_measures_what_the_simulator_itself_measures(instruction):
    task, seed = from_instruction(instruction), 11
    world, truth = SimWorld(SPEC, seed, task), Truth(SPEC)
    truth.watch(task, seed, since=1.0)
    truth.on_moment(moment_of(world, 1.0))
    assert truth.distance == pytest.approx(task.distance(world.tip(), world.cubes(), world.pads()), abs=1e-6)
    assert truth.done_at is None


def test_a_push_is_done_when_the_cube_is_on_the_pad_and_not_before_the_instruction_came():
    task, seed = from_instruction(PUSH), 11
    world, truth = SimWorld(SPEC, seed, task), Truth(SPEC)
    poses = world.object_poses()
    poses[2, :2] = world.pads()["green"][:2]
    truth.watch(task, seed, since=5.0)
    truth.on_moment(Moment(4.9, world.joint_positions(), poses))
    assert truth.done_at is None
    truth.on_moment(Moment(5.1, world.joint_positions(), poses))
    assert truth.done_at == 5.1
    truth.on_moment(Moment(5.2, world.joint_positions(), poses))
    assert truth.done_at == 5.1


def run_of(successes, ticks=1500):
    times = 100.0 + 0.02 * np.arange(ticks)
    recording = Recording(
        [LoopStats(t, i, 0.1, 3.0, 40.0, 0.001, 0.0, 2, 0, "tip") for i, t in enumerate(times)],
        [AppliedAction(t, 1, "mpc", np.zeros(7), ("a",), [0.0]) for t in times],
    )
    spans = [TimeSpan(100.0 + 10 * i, 110.0 + 10 * i) for i in range(3)]
    results = [
        LegResult(leg, span, span, "succeeded", 0.01, 2.0 if done else None)
        for leg, span, done in zip(legs(0), spans, successes, strict=True)
    ]
    return recording, results


@pytest.mark.parametrize(
    "successes, passes",
    [((1, 1, 1), True), ((1, 0, 1), True), ((0, 1, 0), False), ((0, 0, 0), False)],
)
def test_it_passes_with_two_of_three(successes, passes):
    figures, passed = demo_figures(*run_of(successes), dt=0.02)
    assert passed is passes
    assert next(figure.value for figure in figures if figure.name == "demo.successes") == sum(successes)


def test_it_does_not_pass_when_the_loop_did_not_keep_its_rate():
    recording, results = run_of((1, 1, 1))
    del recording.stats[1400:]
    assert not demo_figures(recording, results, dt=0.02)[1]


def test_a_point_in_space_is_where_the_picture_shows_it():
    """The red cube's centre, projected, falls on red pixels: path and picture agree."""
    world = SimWorld(SPEC, 3, from_instruction(REACH), WIDTH, HEIGHT)
    image = world.render("front")
    centre = project(world.cubes()["red"][None], *world.camera_pose("front"), WIDTH, HEIGHT)[0]
    red, green, blue = image[round(centre[1]), round(centre[0])].astype(int)
    world.close()
    assert red > 2 * green
    assert red > 2 * blue


def test_what_is_behind_the_camera_is_not_in_the_picture():
    pixels = project(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), np.eye(3), np.zeros(3), 60.0, 64, 48)
    assert np.isnan(pixels[0]).all()
    np.testing.assert_allclose(pixels[1], [31.5, 23.5])


def test_film_and_picture_of_a_short_run(tmp_path):
    import av

    world = SimWorld(SPEC, 11, from_instruction(PUSH))
    recording = Recording()
    for tick in range(25):
        stamp = 100.0 + 0.02 * tick
        recording.moments.append(moment_of(world, stamp))
        path = world.tip() + np.linspace(0, 0.05, 5)[:, None]
        recording.stats.append(LoopStats(stamp, tick, 0.1, 3.0, 40.0, 0.001, 0.0, 2, 0, "tip", path))
        world.step(10)
    span = TimeSpan(100.0, 100.5)
    result = LegResult(Leg(PUSH, 11), span, span, "succeeded", 0.01, 0.3)
    frames = write_video(tmp_path / "demo.mp4", SPEC, recording, [result])
    plot_loop(tmp_path / "loop.png", recording, span, [(PUSH, span)])
    with av.open(str(tmp_path / "demo.mp4")) as film:
        decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(decoded) == frames
    assert decoded[0].shape == (HEIGHT, WIDTH, 3)
    assert np.abs(decoded[0].astype(int) - decoded[-1]).max() > 50
    assert (tmp_path / "loop.png").read_bytes().startswith(b"\x89PNG")

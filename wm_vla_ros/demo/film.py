"""The demo's film: what the front camera saw, rendered again at full size, with the imagined path on top.

The stack's own cameras are small, since the models need no more. The film is rendered after the run, from
the recorded joints and object poses; the path is the one that the planner published at that moment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.demo.run import LegResult
from wm_vla_ros.recording import Moment, Recording, between
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.scene import FRONT
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import from_instruction
from wm_vla_ros.types import LoopStats

WIDTH, HEIGHT, RATE = 640, 480, 30
_PATH, _TEXT, _SHADOW = (255, 190, 0), (255, 255, 255), (0, 0, 0)
# Frames that stay after an instruction has ended.
_LINGER = 12


def project(
    points: NDArray[np.float32],
    rotation: NDArray[np.float64],
    position: NDArray[np.float64],
    fovy: float,
    width: int,
    height: int,
) -> NDArray[np.float64]:
    """Pixels (n, 2) of points (n, 3) in metres, for a camera as `SimWorld.camera_pose` gives it.

    Points behind the camera come out as NaN.
    """
    local = (np.asarray(points, np.float64) - position) @ rotation
    depth = -local[:, 2]
    focal = height / (2.0 * np.tan(np.radians(fovy) / 2.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = np.stack([local[:, 0], -local[:, 1]], axis=1) * focal / depth[:, None]
    pixels[depth <= 0.0] = np.nan
    return pixels + np.array([(width - 1) / 2.0, (height - 1) / 2.0])


def write_video(path: Path, spec: RobotSpec, recording: Recording, results: Sequence[LegResult]) -> int:
    """An H.264 MP4 of every instruction in turn. Returns the number of frames."""
    import av

    count = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for image in _frames(spec, recording, results):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            count += 1
        container.mux(stream.encode(None))
    return count


def _frames(
    spec: RobotSpec, recording: Recording, results: Sequence[LegResult]
) -> Iterator[NDArray[np.uint8]]:
    world = SimWorld(spec, width=WIDTH, height=HEIGHT)
    try:
        for result in results:
            task = from_instruction(result.leg.instruction)
            world.reset(result.leg.seed, task)
            moments = between(recording.moments, result.span.start, result.span.end)
            stats = between(recording.stats, result.span.start, result.span.end)
            for moment in _at_rate(moments):
                image = _draw(world, moment, _newest(stats, moment.stamp), result)
                yield image
            if moments:
                yield from [image] * _LINGER
    finally:
        world.close()


def _at_rate(moments: Sequence[Moment]) -> Iterator[Moment]:
    due = -np.inf
    for moment in moments:
        if moment.stamp >= due:
            due = max(due + 1.0 / RATE, moment.stamp)
            yield moment


def _newest(stats: Sequence[LoopStats], at: float) -> LoopStats | None:
    index = bisect_right(stats, at, key=lambda item: item.stamp)
    return stats[index - 1] if index else None


def _draw(world: SimWorld, moment: Moment, stats: LoopStats | None, result: LegResult) -> NDArray[np.uint8]:
    import cv2

    world.set_joint_positions(moment.joints)
    world.set_object_poses(moment.poses)
    world.forward()
    image = world.render(FRONT).copy()
    if stats is not None and len(stats.imagined_tip):
        pixels = project(stats.imagined_tip, *world.camera_pose(FRONT), WIDTH, HEIGHT)
        seen = pixels[np.isfinite(pixels).all(axis=1)]
        line = np.round(seen * 16).astype(np.int32)[:, None]
        cv2.polylines(image, [line], False, _PATH, 3, cv2.LINE_AA, shift=4)
        for x, y in seen:
            cv2.circle(image, (round(x), round(y)), 3, _PATH, -1, cv2.LINE_AA)
    elapsed = moment.stamp - result.span.start
    done = result.success_after is not None and elapsed >= result.success_after
    lines = [f"{result.leg.instruction}   {elapsed:4.1f} s" + ("   done" if done else "")]
    if stats is not None and stats.iterations > 0:
        lines.append(f"plan {stats.plan_ms:.1f} ms   newest image {stats.observation_age_ms:.0f} ms old")
    for row, text in enumerate(lines):
        for colour, thickness in ((_SHADOW, 4), (_TEXT, 1)):
            at = (12, 28 + 26 * row)
            cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness, cv2.LINE_AA)
    return image

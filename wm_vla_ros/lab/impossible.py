"""Moments of simulated play, each with two endings: what came, and what physics does not allow.

Both endings are renders of the same scene, arm and light; only a cube lies elsewhere. So whatever tells them
apart knows something about cubes (violation of expectation; Riochet et al., "IntPhys", TPAMI 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.judging.held_out import Cameras
from wm_vla_ros.rig.collect import FIRST_SEED, PLAY_SECONDS
from wm_vla_ros.rig.simulated_arm import SimulatedArm
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.layout import X_RANGE, Y_RANGE
from wm_vla_ros.sim.play import PlayPolicy
from wm_vla_ros.tasks.task import CUBE_SIZE, CUBES
from wm_vla_ros.types import FloatArray

# teleport: a cube is somewhere else. pass_through: a cube that the arm has pushed lies where it lay.
# no_contact: a cube that nothing touched has moved as if pushed.
KINDS = ("teleport", "pass_through", "no_contact")
# Ticks between the two frames: 0.2 s, in which a push shows.
TICKS = 10
_FIRST_SCENE, _PER_KIND, _SETTLED = 90_000, 4, 20
# Metres: how far cubes are put elsewhere, how far a pushed one has moved, and one that nothing touched.
_JUMP, _SHIFT, _PUSHED, _STILL = (0.04, 0.10), (0.012, 0.025), 0.01, 0.0005
# Metres that a cube keeps from the fingertip and from other cubes where it is put.
_CLEAR_OF_TIP, _CLEAR_OF_CUBES = 0.05, CUBE_SIZE * 1.5
# Share of the image that a cube has to fill, before and at both ends: what is hidden can surprise nobody.
_SHOWN, _CONTRAST = 0.003, 12


@dataclass(frozen=True)
class Moments:
    """N moments of TICKS ticks. Images are camera -> (N, H, W, 3) uint8 RGB.

    before, after, changed: what was seen first, what came, and the impossible instead of it.
    proprio_before, proprio_after: (N, P). actions: (N, TICKS, A) that the arm executed in between.
    kind: (N,) of KINDS. episode: (N,) numbers.
    """

    before: dict[str, NDArray[np.uint8]]
    after: dict[str, NDArray[np.uint8]]
    changed: dict[str, NDArray[np.uint8]]
    proprio_before: FloatArray
    proprio_after: FloatArray
    actions: FloatArray
    kind: NDArray[np.str_]
    episode: NDArray[np.int64]


@dataclass(frozen=True)
class _Snapshot:
    """The world at one tick. joints (n,) rad, poses (3, 7), tip (3,) metres, action: of this tick."""

    joints: NDArray[np.float64]
    poses: NDArray[np.float64]
    tip: NDArray[np.float64]
    proprio: FloatArray
    action: FloatArray


def record_moments(
    spec: RobotSpec, cameras: Cameras, episodes: int, progress: Callable[[int], None] = lambda done: None
) -> Moments:
    """Moments of each kind from `episodes` of play, in scenes that are never recorded for training.

    Raises ValueError when no moment of one kind was found: more episodes are needed.
    """
    if not 1 <= episodes <= FIRST_SEED - _FIRST_SCENE:
        raise ValueError(f"episodes must be between 1 and {FIRST_SEED - _FIRST_SCENE}, got {episodes}")
    arm = SimulatedArm(spec, cameras.width, cameras.height)
    rows: list[dict] = []
    for number in range(episodes):
        seed = _FIRST_SCENE + number
        track = _play(arm, seed)
        rng = np.random.default_rng([seed, 6])
        for kind in KINDS:
            taken: list[int] = []
            for start in rng.permutation(np.arange(_SETTLED, len(track) - TICKS)).tolist():
                # Moments of one kind are apart in time: half overlapping ones say the same thing twice.
                if len(taken) == _PER_KIND or any(abs(start - other) < TICKS for other in taken):
                    continue
                row = _moment(arm, track, start, kind, cameras, rng)
                if row is not None:
                    rows.append({**row, "kind": kind, "episode": number})
                    taken.append(start)
        progress(number + 1)
    arm.world.close()
    missing = [kind for kind in KINDS if all(row["kind"] != kind for row in rows)]
    if missing:
        raise ValueError(f"no moment of {', '.join(missing)} in {episodes} episodes; take more")

    def column(name: str) -> NDArray:
        return np.stack([row[name] for row in rows])

    def images(name: str) -> dict[str, NDArray[np.uint8]]:
        return {camera: np.stack([row[name][camera] for row in rows]) for camera in cameras.names}

    return Moments(
        images("before"), images("after"), images("changed"),
        column("proprio_before"), column("proprio_after"), column("actions"),
        column("kind"), column("episode"),
    )  # fmt: skip


def _play(arm: SimulatedArm, seed: int) -> list[_Snapshot]:
    """One episode of play, as `data.collect` records it."""
    arm.reset(seed, None)
    policy, world = PlayPolicy(arm.spec, np.random.default_rng([seed, 4])), arm.world
    track = []
    for _ in range(round(PLAY_SECONDS / arm.spec.dt)):
        seen = world.joint_positions(), world.object_poses(), world.tip(), arm.proprio()
        track.append(_Snapshot(*seen, arm.apply(policy.action(world))))
    return track


def _moment(
    arm: SimulatedArm,
    track: list[_Snapshot],
    start: int,
    kind: str,
    cameras: Cameras,
    rng: np.random.Generator,
) -> dict | None:
    """The moment that begins at `start`, or None when it is not of this kind or does not show."""
    before, after = track[start], track[start + TICKS]
    found = impossible_end(kind, before.poses, after.poses, (before.tip, after.tip), rng)
    if found is None:
        return None
    cube, changed = found
    views = {}
    for name, snapshot, poses in (
        ("before", before, before.poses),
        ("after", after, after.poses),
        ("changed", after, changed),
    ):
        views[name] = _render(arm, snapshot, poses, cameras)
        hidden = poses.copy()
        hidden[cube, 2] = -1.0
        without = _render(arm, snapshot, hidden, cameras)
        shown = [np.abs(views[name][c].astype(int) - without[c]).max(-1) > _CONTRAST for c in cameras.names]
        if max(float(pixels.mean()) for pixels in shown) < _SHOWN:
            return None
    return {
        **views,
        "proprio_before": before.proprio,
        "proprio_after": after.proprio,
        "actions": np.stack([snapshot.action for snapshot in track[start : start + TICKS]]),
    }


def impossible_end(
    kind: str,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    tips: tuple[NDArray[np.float64], NDArray[np.float64]],
    rng: np.random.Generator,
) -> tuple[int, NDArray[np.float64]] | None:
    """A cube, and poses (3, 7) with it elsewhere that cannot follow on `before`; None if there are none.

    before, after: (3, 7) what came. tips: fingertip (3,) at both times. Raises ValueError for an unknown
    kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; valid: {', '.join(KINDS)}")
    moved = np.linalg.norm(after[:, :3] - before[:, :3], axis=1)
    ends = zip((before, after), tips, strict=True)
    near = np.min([np.linalg.norm(poses[:, :3] - tip, axis=1) for poses, tip in ends], axis=0)
    changed = after.copy()
    for cube in rng.permutation(len(CUBES)):
        if kind == "pass_through":
            if moved[cube] > _PUSHED:
                changed[cube] = before[cube]
                return int(cube), changed
            continue
        if kind == "no_contact" and (moved[cube] > _STILL or near[cube] < _CLEAR_OF_TIP):
            continue
        angle, size = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(*(_JUMP if kind == "teleport" else _SHIFT))
        place = after[cube, :2] + size * np.array([np.cos(angle), np.sin(angle)])
        others = np.delete(after[:, :2], cube, axis=0)
        if (
            X_RANGE[0] <= place[0] <= X_RANGE[1]
            and Y_RANGE[0] <= place[1] <= Y_RANGE[1]
            and np.linalg.norm(place - tips[1][:2]) >= _CLEAR_OF_TIP
            and np.all(np.linalg.norm(others - place, axis=1) >= _CLEAR_OF_CUBES)
        ):
            changed[cube, :2] = place
            return int(cube), changed
    return None


def _render(
    arm: SimulatedArm, snapshot: _Snapshot, poses: NDArray[np.float64], cameras: Cameras
) -> dict[str, NDArray[np.uint8]]:
    """The arm as it was, the cubes at `poses`."""
    arm.world.set_joint_positions(snapshot.joints)
    arm.world.set_object_poses(poses)
    arm.world.forward()
    return {name: arm.world.render(name).copy() for name in cameras.names}

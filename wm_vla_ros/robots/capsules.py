"""The links as capsules, from the geometry that the robot's URDF gives them for collision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.robots.model import TABLE
from wm_vla_ros.robots.spec import RobotSpec

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True, slots=True)
class Capsule:
    """A segment `ends` (2, 3) in metres in the frame of its link, and all within `radius` metres of it."""

    body: int
    ends: NDArray[np.float64]
    radius: float

    def holds(self, other: Capsule) -> bool:
        """Whether `other`, of the same link, lies wholly inside."""
        way = self.ends[1] - self.ends[0]
        along = np.clip((other.ends - self.ends[0]) @ way / max(float(way @ way), 1e-12), 0.0, 1.0)
        off = np.linalg.norm(other.ends - self.ends[0] - along[:, None] * way, axis=1)
        return bool(np.all(off + other.radius <= self.radius + 1e-6))


@dataclass(frozen=True, slots=True)
class CapsuleModel:
    """The capsules that matter, and what each is to keep off.

    capsules: C of them, with their radii (C,) in metres. pairs: (P, 2) indices of capsules; above_table:
    (T,) indices; table_height: metres.
    """

    capsules: tuple[Capsule, ...]
    radius: NDArray[np.float32]
    pairs: NDArray[np.int64]
    above_table: NDArray[np.int64]
    table_height: float


def capsule_model(spec: RobotSpec, model: mujoco.MjModel) -> CapsuleModel:
    """Capsules around the links that `spec.collision_pairs` names, and their pairs.

    A link and the one that it hangs on are no pair: they touch by design. Raises ValueError for a link that
    the model lacks.
    """
    known = [model.body(i).name for i in range(1, model.nbody)]
    capsules: list[Capsule] = []
    of: dict[str, list[int]] = {}
    pairs: set[tuple[int, int]] = set()
    above: set[int] = set()

    def indices(link: str) -> list[int]:
        if link not in known:
            raise ValueError(f"collision_pairs: no link {link!r}; valid: {TABLE}, {', '.join(known)}")
        if link not in of:
            found = _link_capsules(model, int(model.body(link).id))
            of[link] = list(range(len(capsules), len(capsules) + len(found)))
            capsules.extend(found)
        return of[link]

    def adjacent(one: str, other: str) -> bool:
        a, b = int(model.body(one).id), int(model.body(other).id)
        return a == b or int(model.body_parentid[a]) == b or int(model.body_parentid[b]) == a

    for first, second in spec.collision_pairs:
        for one, other in [(a, b) for a in first for b in second]:
            if TABLE in (one, other):
                above.update(indices(other if one == TABLE else one))
                continue
            these, those = indices(one), indices(other)
            if not adjacent(one, other):
                pairs.update((i, j) for i in these for j in those)
    return CapsuleModel(
        tuple(capsules),
        np.array([capsule.radius for capsule in capsules], np.float32),
        np.array(sorted(pairs), np.int64).reshape(-1, 2),
        np.array(sorted(above), np.int64),
        spec.table_height,
    )


def _link_capsules(model: mujoco.MjModel, body: int) -> list[Capsule]:
    """Around each geom of the link that collides; without those that lie inside another."""
    found = [
        _around(model, geom)
        for geom in range(model.ngeom)
        if int(model.geom_bodyid[geom]) == body and int(model.geom_contype[geom])
    ]
    found.sort(key=lambda capsule: -float(np.linalg.norm(capsule.ends[1] - capsule.ends[0])))
    kept: list[Capsule] = []
    for capsule in found:
        if not any(other.holds(capsule) for other in kept):
            kept.append(capsule)
    return kept


def _around(model: mujoco.MjModel, geom: int) -> Capsule:
    """A capsule that holds the geom. Of a sphere, a capsule or a cylinder its own axis and radius, so that
    a cylinder gets caps; of anything else one along the longest side of its box, as thick as the others.
    """
    import mujoco

    kinds = mujoco.mjtGeom
    size, kind = model.geom_size[geom], int(model.geom_type[geom])
    centre, half = np.zeros(3), np.zeros(3)
    if kind in (int(kinds.mjGEOM_SPHERE), int(kinds.mjGEOM_CAPSULE), int(kinds.mjGEOM_CYLINDER)):
        radius = float(size[0])
        half[2] = 0.0 if kind == int(kinds.mjGEOM_SPHERE) else size[1]
    else:
        box = model.geom_aabb[geom]  # centre and half sides, in the geom's frame
        centre, longest = box[:3], int(np.argmax(box[3:]))
        half[longest] = box[3 + longest]
        radius = float(np.linalg.norm(np.delete(box[3:], longest)))
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    ends = model.geom_pos[geom] + np.array([centre - half, centre + half]) @ rotation.reshape(3, 3).T
    return Capsule(int(model.geom_bodyid[geom]), ends, radius)

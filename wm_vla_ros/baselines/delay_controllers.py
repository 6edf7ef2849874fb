"""The contestants of `wm-vla bench delay`: the same policy, its delay hidden in different ways."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.baselines.chunk_merging import MERGES, Merge, Newest, Timed
from wm_vla_ros.baselines.path_following import follow_path
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import SOURCE
from wm_vla_ros.rig.controllers import Policy, PolicyAlone, TwoLoops, newer
from wm_vla_ros.rig.motion_trace import Contestant
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import Task
from wm_vla_ros.types import AppliedAction, Observation, Plan
from wm_vla_ros.world_models.protocol import WorldModel

if TYPE_CHECKING:
    from wm_vla_ros.robots.action_map import ActionMap

# Ours, whole and with one part switched off. no_goal: no latent goal terms (latents and imagined objects);
# what is left to follow is where the chunk leads the tip.
OURS = {
    "ours": MpcConfig(),
    "ours_no_prediction": MpcConfig(predict=False),
    "ours_no_chunk": MpcConfig(chunk_candidate=False),
    "ours_no_objects": MpcConfig(follow_objects=False),
    "ours_no_goal": MpcConfig(weight_latent=0.0, weight_objects=0.0),
}
CONTESTANTS = ("sync", *MERGES, "rollforward", *OURS)


def contestant(name: str, policy: Policy, model: WorldModel, spec: RobotSpec, latency: float) -> Contestant:
    """A new controller of that name; latency: seconds of an inference. Raises ValueError with the names."""
    if name in OURS:
        return TwoLoops(policy, model, spec, latency, OURS[name])
    if name in MERGES:
        return AsyncChunks(policy, spec, latency, MERGES[name]())
    if name == "rollforward":
        return AsyncChunks(policy, spec, latency, Newest(), StateRollForward(spec))
    if name == "sync":
        return PolicyAlone(policy, spec, latency)
    raise ValueError(f"unknown contestant {name!r}; valid: {', '.join(CONTESTANTS)}")


class StateRollForward:
    """Proprioception as it will be when the chunk arrives: what was measured, and the commands in flight.

    The arm's own motion hides the delay; the images stay as old as they are. The servos are taken to trail
    the command by as much as they did when the image was taken.
    """

    def __init__(self, spec: RobotSpec) -> None:
        from wm_vla_ros.robots.action_map import ActionMap
        from wm_vla_ros.robots.kinematics import Kinematics

        self._joints = spec.dof
        self._kinematics = Kinematics(spec)
        self._map: ActionMap = ActionMap(spec)

    def __call__(
        self,
        proprio: NDArray[np.float32],
        commanded: NDArray[np.float64],
        actions: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """proprio (P,) after `actions` (n, 7), from the joints (dof,) in rad that are commanded now."""
        from wm_vla_ros.robots.proprio import proprio as layout

        n = self._joints
        measured, then = proprio[:n].astype(np.float64), proprio[n : 2 * n].astype(np.float64)
        self._map.reset(commanded)
        for action in actions:
            with suppress(ValueError):  # no motion leads there: the arm would hold
                self._map.commit(self._map.step(action, self._map.commanded))
        ahead = self._map.commanded
        return layout(self._kinematics, measured + (ahead - then), ahead)


class AsyncChunks:
    """The policy infers without pause, `latency` seconds a time, and its chunks are executed as `merge` says.

    Chunks are merged as the positions that they lead the commanded tip to, as in the systems that these
    merges come from, whose actions are absolute: a displacement that is skipped would be lost for good, and
    the arm would never close a gap that is shorter than its delay. Rows are numbered by the actions executed
    since their observation. Where the merge leads is followed as fast as ours may follow, and with more
    acceleration; when the chunks have run out the arm holds. An inference is delivered at a tick, never in
    the one it was begun in, as by TwoLoops. roll_forward: gives the policy the state that the arm will be in
    when the chunk arrives; the chunk then begins there. chunk: number of the newest chunk that has arrived.
    """

    def __init__(
        self,
        policy: Policy,
        spec: RobotSpec,
        latency: float,
        merge: Merge,
        roll_forward: StateRollForward | None = None,
    ) -> None:
        self._policy = policy
        self._spec = spec
        self._latency = latency
        self._merge = merge
        self._roll_forward = roll_forward
        self._command = [proprio_names(spec).index(f"tip.command.{axis}") for axis in "xyz"]

    def start(self, task: Task) -> None:
        self._task = task
        self.chunk = 0
        self._merge.reset()
        self._newest: Observation | None = None
        self._inferred_from = -np.inf
        self._inferring: _Thought | None = None
        self._path: Timed | None = None
        self._plan: Plan | None = None
        self._sequence = 0
        self._applied: list[AppliedAction] = []
        # Where the command is, metres in the frame of the newest chunk's observation.
        self._at: NDArray[np.float64] = np.zeros(3)

    def on_observation(self, observation: Observation, now: float) -> None:
        self._newest = newer(self._newest, observation)

    def on_applied(self, applied: AppliedAction) -> None:
        self._applied.append(applied)
        self._at = self._at + applied.action[:3].astype(np.float64) * self._spec.translation_scale

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        """Not used."""

    def tick(self, now: float) -> Plan | None:
        inferred = self._inferring
        if inferred is not None and now >= inferred.ready - 1e-9:
            self._inferring = None
            self.chunk += 1
            self._at = inferred.origin + self._moved_since(inferred.stamp)
            self._path = self._merge.merge(inferred.path, self._executed())
        self._plan = self._follow(now)
        # One image is inferred from once: the same chunk twice would weigh double in a merge.
        if self._inferring is None and self._newest is not None and self._newest.stamp > self._inferred_from:
            self._inferring = self._think(self._newest, now)
            self._inferred_from = self._newest.stamp
        return self._plan

    def _follow(self, now: float) -> Plan | None:
        left = None if self._path is None else self._path.since(self._executed())
        if left is None or len(left.actions) == 0 or left.first > self._executed():
            return None
        dt, scale = self._spec.dt, self._spec.translation_scale
        tip, targets = self._at.astype(np.float32), left.actions[:, :3]
        actions = np.clip(follow_path(tip, targets, self._applied[-1].action, left.actions, scale), -1.0, 1.0)
        actions[:, 6] = np.clip(actions[:, 6], 0.0, 1.0)
        self._sequence += 1
        start = (np.floor(now / dt + 1e-6) + 1.0) * dt
        # The stamp is the present, as for PolicyAlone: what a late chunk costs is the question here.
        return Plan(now, self._sequence, SOURCE, float(start), dt, actions)

    def _think(self, seen: Observation, now: float) -> _Thought:
        state, first = seen.proprio, self._executed(before=seen.stamp)
        if self._roll_forward is not None and self._applied:
            ticks = max(1, int(np.ceil(self._latency / self._spec.dt - 1e-6)))
            in_flight = self._plan.actions[:ticks] if self._plan is not None else np.zeros((0, 7), np.float32)
            state = self._roll_forward(state, self._applied[-1].joint_positions, in_flight)
            first = self._executed() + len(in_flight)
        path = np.array(self._policy.infer(dict(seen.images), state, self._task.instruction))
        path[:, :3] = state[self._command] + np.cumsum(path[:, :3] * self._spec.translation_scale, axis=0)
        origin = seen.proprio[self._command].astype(np.float64)
        return _Thought(now + self._latency, seen.stamp, origin, Timed(first, path))

    def _executed(self, before: float = np.inf) -> int:
        """How many actions of chunks were executed before that time, seconds."""
        return sum(a.source == SOURCE and a.stamp < before - 1e-6 for a in self._applied)

    def _moved_since(self, stamp: float) -> NDArray[np.float64]:
        """Displacement (3,) in metres that was commanded since `stamp`."""
        moves = [a.action[:3].astype(np.float64) for a in self._applied if a.stamp >= stamp - 1e-6]
        return np.sum(moves, axis=0) * self._spec.translation_scale if moves else np.zeros(3)


@dataclass(frozen=True, slots=True)
class _Thought:
    """A chunk on its way. ready: when it arrives. origin: (3,) commanded tip at `stamp`, of its image."""

    ready: float
    stamp: float
    origin: NDArray[np.float64]
    path: Timed

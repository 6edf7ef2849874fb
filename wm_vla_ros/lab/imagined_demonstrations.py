"""More demonstrations than were recorded: a world model imagines them, from the recorded ones alone.

Each begins at a latent that was recorded, is pushed about in the model for a while, and then plans in the
model, by gradient, along the motion of a demonstration carried over to where things are now (`transplant`):
that of the same episode, which teaches to come back, or of another one, which teaches the same in another
scene. The planned actions are the labels. What the model does not follow is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros.data.latent_episodes import LatentEpisodes, Provenance, joined
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import TIP, columns
from wm_vla_ros.judging.encodings import check_layout, encode_rows
from wm_vla_ros.lab.transplant import Demonstration, Route, about, approach, transplant
from wm_vla_ros.rig.behaviours import NOISE_SPEED, NOISE_TICKS
from wm_vla_ros.types import EE_DELTA, FloatArray
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

# Share of imagined episodes that go on in their own scene; the others take over another one's motion.
_OWN = 0.5
# The planner: ticks ahead, of which so many are done before it plans on, steps of gradient and their size.
_HORIZON, _DONE, _STEPS, _RATE = 10, 5, 4, 0.03
# Metres, and units of action, that cost 1 per tick: off the route, and off the actions that it came with.
_OFF, _UNUSUAL = 0.003, 0.05
# Metres by which tip and objects may be off their route, and ticks that are cut off before that happens.
_ASTRAY, _BEFORE = 0.015, 10
# Ticks that an imagined episode must have, and draws for each that is wanted.
_SHORTEST, _DRAWS = 25, 4
# Episodes drawn, and imagined side by side, at a time: those of a like length are planned together.
_DRAWN, _BATCH = 256, 64

Progress = Callable[[float, str], None]


def encode_demonstrations(
    model: TorchWorldModel, data: EpisodeArrays, episodes: NDArray[np.int64], provenance: Provenance
) -> LatentEpisodes:
    """Recorded episodes as the model sees them; rows between images hold the latent of the last one.

    Raises ValueError when the data set is of another layout than the model.
    """
    check_layout(model, data)
    spans = [np.arange(*data.bounds(int(episode))) for episode in episodes]
    rows = np.concatenate(spans)
    frame_rows = data.frame_rows[data.row_frame[rows]]
    seen, place = np.unique(frame_rows, return_inverse=True)
    owner = np.repeat(np.asarray(episodes), [len(span) for span in spans])
    where = np.stack([owner, rows - data.starts[owner]], axis=1)
    return LatentEpisodes(
        latents=encode_rows(model, data, seen)[place],
        age=((rows - frame_rows) * data.dt).astype(np.float32),
        actions=data.actions[rows],
        expert_actions=data.expert_actions[rows],
        disturbed=data.disturbed[rows],
        imagined=np.zeros(len(rows), bool),
        motion=where,
        scene=np.stack([owner, np.zeros(len(rows), np.int64)], axis=1),
        starts=np.cumsum([0, *map(len, spans)]),
        episode_tasks=data.episode_tasks[episodes],
        tasks=data.tasks,
        action_names=data.action_names,
        robot=data.robot,
        dt=data.dt,
        provenance=provenance,
    )


def imagine(
    model: TorchWorldModel,
    recorded: LatentEpisodes,
    times: int,
    seed: int,
    progress: Progress = lambda share, note: None,
) -> LatentEpisodes:
    """`times` as many imagined episodes as there are recorded ones; each of their rows has its own latent.

    Raises ValueError when `times` is below 1, the model takes other actions than the tip's displacement or
    does not know where tip and objects are, or it follows too few of what is asked of it.
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, got {times}")
    imagination = _Imagination(model, recorded)
    rng = np.random.default_rng(seed)
    wanted = times * recorded.episodes
    found: list[LatentEpisodes] = []
    drawn = 0
    while len(found) < wanted:
        if drawn >= _DRAWS * wanted:
            raise ValueError(
                f"{model.manifest.name} followed {len(found)} of {drawn} demonstrations that it was to "
                f"imagine, and {wanted} are wanted; more recorded ones may help"
            )
        count = min(_DRAWN, wanted)
        found += imagination.episodes([imagination.draft(rng) for _ in range(count)])
        drawn += count
        done = min(len(found), wanted)
        progress(done / wanted, f"{done} of {wanted} imagined, {drawn} drawn")
    return joined(found[:wanted])


@dataclass(frozen=True, slots=True)
class _Draft:
    """An episode to imagine: begun where, pushed about how (ticks, A), after whose motion from where on."""

    scene: int
    row: int
    push: FloatArray
    motion: int
    entry: int


class _Imagination:
    """What a model imagines of some recorded demonstrations."""

    def __init__(self, model: TorchWorldModel, recorded: LatentEpisodes) -> None:
        if model.manifest.action_space != EE_DELTA:
            space = model.manifest.action_space
            raise ValueError(f"{model.manifest.name} takes actions of {space!r}, needed: {EE_DELTA!r}")
        names = model.grounding_names
        things = columns(names, "")
        self._tip = things.pop(TIP, [])
        self._objects = np.array(list(things.values()), np.int64)
        if not self._tip or not len(self._objects):
            raise ValueError(f"{model.manifest.name} does not say where tip and objects are: {names}")
        self._model, self._recorded = model, recorded
        self._shown = [self._demonstration(number) for number in range(recorded.episodes)]
        self._about = about(self._shown)
        entries = [approach(each, self._about[each.task].thing) for each in self._shown]
        # Of others' motion, where the hand comes near; of the own one, any row that was seen.
        self._others = [
            (number, entry)
            for number, entry in enumerate(entries)
            if entry is not None and self._shown[number].undisturbed(entry) >= _SHORTEST
        ]
        seen = [np.flatnonzero(recorded.age[slice(*span)] == 0) for span in pairwise(recorded.starts)]
        self._starts = [(number, int(row)) for number, rows in enumerate(seen) for row in rows]
        self._own = [
            (number, row) for number, row in self._starts if self._shown[number].undisturbed(row) >= _SHORTEST
        ]
        if not self._own:
            raise ValueError(f"no recorded demonstration has {_SHORTEST} undisturbed rows in a row")
        self._low, self._high = (
            torch.from_numpy(each)
            for each in (recorded.expert_actions.min(0), recorded.expert_actions.max(0))
        )

    def draft(self, rng: np.random.Generator) -> _Draft:
        """One at random."""
        if self._others and rng.random() >= _OWN:
            motion, entry = self._others[rng.integers(len(self._others))]
            scene, row = self._starts[rng.integers(len(self._starts))]
        else:
            motion, entry = scene, row = self._own[rng.integers(len(self._own))]
        direction = rng.normal(size=3)
        direction[2] = abs(direction[2])  # away from the table
        push = np.zeros((rng.integers(NOISE_TICKS[1]), len(self._low)), np.float32)
        speed = rng.uniform(*NOISE_SPEED) / self._model.manifest.translation_scale
        push[:, :3] = speed * direction / np.linalg.norm(direction)
        return _Draft(scene, row, push, motion, entry)

    def episodes(self, drafts: Sequence[_Draft]) -> list[LatentEpisodes]:
        """What becomes of them; of those that the model does not follow, nothing."""
        begun = self._pushed(drafts)
        grounded = self._model.ground(begun)
        tasks = [self._shown[draft.motion].task for draft in drafts]
        routes = [
            transplant(
                self._shown[draft.motion],
                self._about[task],
                draft.entry,
                place[self._tip],
                place[self._objects],
                self._model.manifest.translation_scale,
            )
            for draft, task, place in zip(drafts, tasks, grounded, strict=True)
        ]
        kept = [n for n, route in enumerate(routes) if route is not None and len(route.row) >= _SHORTEST]
        kept.sort(key=lambda n: len(routes[n].row))
        out = {}
        for first in range(0, len(kept), _BATCH):
            some = kept[first : first + _BATCH]
            things = [self._about[tasks[n]].thing for n in some]
            found = self._follow(begun[some], [routes[n] for n in some], self._objects[things])
            for n, thing, latents, actions in zip(some, things, *found, strict=True):
                length = self._followed(latents, routes[n], thing)
                if length >= _SHORTEST:
                    out[n] = self._episode(latents[:length], actions[:length], routes[n], drafts[n])
        return [out[n] for n in sorted(out)]  # by length, the long ones would be those left over

    def _demonstration(self, number: int) -> Demonstration:
        data = self._recorded
        rows = slice(*data.starts[number : number + 2])
        seen = np.flatnonzero(data.age[rows] == 0)
        places = self._model.ground(data.latents[rows][seen])
        ticks = np.arange(rows.stop - rows.start)
        places = np.stack([np.interp(ticks, seen, column) for column in places.T], 1).astype(np.float32)
        return Demonstration(
            data.tasks[data.episode_tasks[number]],
            places[:, self._tip],
            places[:, self._objects],
            data.expert_actions[rows],
            data.disturbed[rows],
        )

    def _pushed(self, drafts: Sequence[_Draft]) -> FloatArray:
        """(B, D) latents after the pushes."""
        rows = np.array([self._recorded.starts[draft.scene] + draft.row for draft in drafts])
        start = self._recorded.latents[rows]
        pushes = _padded([draft.push for draft in drafts])
        after = np.concatenate([start[:, None], self._model.rollout(start, pushes)], axis=1)
        return after[np.arange(len(drafts)), [len(draft.push) for draft in drafts]]

    def _follow(
        self, start: FloatArray, routes: Sequence[Route], things: NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray]:
        """Latents (B, L, D) in which, and actions (B, L, A) that, the model plans along routes, padded to L.

        things: (B, 3) columns of the object that each is about.
        """
        tip, thing, usual = (
            torch.from_numpy(_padded([getattr(route, name) for route in routes]))
            for name in ("tip", "thing", "actions")
        )
        wanted = torch.cat([tip, thing], -1)
        at = torch.from_numpy(np.concatenate([np.tile(self._tip, (len(things), 1)), things], 1))
        latent = torch.from_numpy(start)
        latents, actions = [], []
        for first in range(0, usual.shape[1], _DONE):
            window = slice(first, first + _HORIZON)
            plan = self._plan(latent, wanted[:, window], at, usual[:, window])[:, :_DONE]
            with torch.no_grad():
                imagined, _ = self._model.imagine(latent, plan)
            latents.append(torch.cat([latent[:, None], imagined[:, :-1]], 1))
            actions.append(plan)
            latent = imagined[:, -1]
        return torch.cat(latents, 1).numpy(), torch.cat(actions, 1).numpy()

    def _plan(self, latent: Tensor, wanted: Tensor, at: Tensor, usual: Tensor) -> Tensor:
        """Actions (B, H, A) near the usual ones that bring tip and thing to (B, H, 6) metres."""
        plan = usual.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([plan], _RATE)
        columns = at[:, None].expand(-1, usual.shape[1], -1)
        for _ in range(_STEPS):
            _, places = self._model.imagine(latent, plan)
            off = (places.gather(-1, columns) - wanted) / _OFF
            unusual = (plan - usual) / _UNUSUAL
            optimiser.zero_grad(set_to_none=True)
            (off.square().sum() + unusual.square().sum()).backward()
            optimiser.step()
        return torch.minimum(torch.maximum(plan.detach(), self._low), self._high)

    def _followed(self, latents: FloatArray, route: Route, thing: int) -> int:
        """Ticks for which tip and thing stay on the route, and the other objects where they are."""
        places = self._model.ground(latents[: len(route.row)])
        wanted = np.repeat(places[:1], len(places), axis=0)
        wanted[1:, self._tip], wanted[1:, self._objects[thing]] = route.tip[:-1], route.thing[:-1]
        off = (places - wanted)[:, [*self._tip, *self._objects.ravel()]].reshape(len(places), -1, 3)
        astray = np.linalg.norm(off, axis=2).max(axis=1) > _ASTRAY
        return int(np.argmax(astray)) - _BEFORE if astray.any() else len(places)

    def _episode(
        self, latents: FloatArray, actions: FloatArray, route: Route, draft: _Draft
    ) -> LatentEpisodes:
        count, data = len(latents), self._recorded
        motion, scene = (data.scene[data.starts[number], 0] for number in (draft.motion, draft.scene))
        return replace(
            data,
            latents=latents,
            age=np.zeros(count, np.float32),
            actions=actions,
            expert_actions=actions,
            disturbed=np.zeros(count, bool),
            imagined=np.ones(count, bool),
            motion=np.stack([np.full(count, motion), route.row[:count]], axis=1),
            scene=np.tile([scene, draft.row], (count, 1)),
            starts=np.array([0, count]),
            episode_tasks=data.episode_tasks[[draft.motion]],
        )


def _padded(parts: Sequence[NDArray]) -> NDArray:
    """(B, L, ...) of parts (l, ...), each held at its end; of one without rows, zeros."""
    out = np.zeros((len(parts), max(1, *map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
        row[len(part) :] = part[-1:] if len(part) else 0
    return out

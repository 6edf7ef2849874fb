"""Which runtime plans fast enough here, tried at the true shapes before the loop begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.planning.objective import LatentTracking, Rollouts, TipTracking
from wm_vla_ros.planning.samplers.noise import KNOTS, spline_basis
from wm_vla_ros.planning.warm_up import rehearse, still_observation
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.runtimes import RUNTIMES, available_runtimes

AUTO = "auto"
REFERENCE = "onnx"
# Largest difference of an imagined latent, whose entries have unit variance, between two float32 runtimes.
_TOLERANCE = 1e-3
# Of a reduced precision: what it must leave of the order in which the reference ranks candidates.
_ELITES_SHARED, _RANK_CORRELATION = 0.9, 0.99
_ELITE_SHARE = 0.1
_CANDIDATES = 256
# A runtime is worth its complications when it is faster by more than this.
_WORTH = 1.1
_WARM_UP, _TIMED = 5, 25

Opener = Callable[[str], WorldModel]


@dataclass(frozen=True, slots=True)
class TickTimes:
    """ms of each tick until its plan is out, and of the search in it, from candidates to plan."""

    ticks: NDArray[np.float64]
    searches: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """One runtime. milliseconds: median of a whole tick, NaN when it was refused, for the reason given."""

    name: str
    milliseconds: float = math.nan
    refused: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name} refused ({self.refused})"
            if self.refused
            else f"{self.name} {self.milliseconds:.2f}"
        )


def choose_runtime(
    name: str, opener: Opener, spec: RobotSpec, config: MpcConfig, log: Callable[[str], None]
) -> tuple[str, WorldModel]:
    """Name and world model: under the runtime `name`, or for "auto" under the one that suits this machine.

    opener: gives the model under a runtime. log: gets one line, with the median of each that was tried.
    Raises ModelRefused when the named one, or every one, cannot run, disagrees with the reference, or does
    not suit the sampler.
    """
    reference = opener(REFERENCE)
    if name != AUTO:
        model = _agreeing(name, opener, reference, config)
        log(f"runtime {name}, as asked")
        return name, model
    models: dict[str, WorldModel] = {}
    trials = []
    for tried in available_runtimes():
        try:
            model = _agreeing(tried, opener, reference, config)
            trials.append(Trial(tried, float(np.median(time_ticks(model, spec, config).ticks))))
            models[tried] = model
        except Exception as error:  # ours are ValueErrors; a driver that fails raises what it likes
            trials.append(Trial(tried, refused=" ".join(str(error).split())))
    budget = config.deadline * 1e3
    chosen = choice(trials, budget)
    listed = ", ".join(map(str, trials))
    if chosen is None:
        raise ModelRefused(f"no runtime can plan here: {listed}")
    verdict = "deadline" if chosen.milliseconds <= budget else "none meets the deadline of"
    log(f"runtime {chosen.name}; median ms of a tick: {listed}; {verdict} {budget:.1f} ms")
    return chosen.name, models[chosen.name]


def choice(trials: Sequence[Trial], budget: float) -> Trial | None:
    """The first, and so the simplest, within a tenth of the fastest; None when all were refused.

    Only of those within `budget` ms, where there are any.
    """
    ran = [trial for trial in trials if not trial.refused]
    ran = [trial for trial in ran if trial.milliseconds <= budget] or ran
    fastest = min((trial.milliseconds for trial in ran), default=math.nan)
    return next((trial for trial in ran if trial.milliseconds <= _WORTH * fastest), None)


def time_ticks(
    model: WorldModel,
    spec: RobotSpec,
    config: MpcConfig,
    ticks: int = _TIMED,
    progress: Callable[[float], None] = lambda share: None,
) -> TickTimes:
    """Of `ticks` ticks that run all their iterations, however long they take.

    Raises ModelRefused when a tick makes no plan: it would look fast.
    """
    core = MpcCore(model, spec, replace(config, deadline=math.inf))
    taken = []
    for result in rehearse(core, model, spec, _WARM_UP + ticks):
        if result.plan is None:
            said = "; ".join(fault.text for fault in result.faults)
            raise ModelRefused(f"rehearsal: expected a plan in every tick, found none ({said})")
        taken.append((result.stats.plan_ms, result.search_ms))
        progress(len(taken) / (_WARM_UP + ticks))
    return TickTimes(*np.array(taken[_WARM_UP:]).T)


def _agreeing(name: str, opener: Opener, reference: WorldModel, config: MpcConfig) -> WorldModel:
    """The model under `name`. Raises ModelRefused where its imagination is not the reference's."""
    if name == REFERENCE:
        return reference
    model = opener(name)
    if RUNTIMES[name].bfloat16:
        shared, correlation = elite_agreement(model, reference, config)
        if not (shared >= _ELITES_SHARED and correlation >= _RANK_CORRELATION):
            raise ModelRefused(
                f"runtime {name}: expected {_ELITES_SHARED:.0%} of the elites and a rank correlation of "
                f"{_RANK_CORRELATION} with {REFERENCE}, found {shared:.0%} and {correlation:.4f}"
            )
        return model
    start, actions = _candidates(reference, config)
    error = float(np.abs(model.rollout(start, actions) - reference.rollout(start, actions)).max())
    if not error <= _TOLERANCE:
        raise ModelRefused(f"runtime {name}: expected latents within {_TOLERANCE}, found {error:.2g} off")
    return model


def elite_agreement(model: WorldModel, reference: WorldModel, config: MpcConfig) -> tuple[float, float]:
    """Share of the reference's elites that are also the model's, and Spearman's rank correlation of all.

    Over random candidates of the planner's own spread, judged by how far they are from another one's path.
    """
    start, actions = _candidates(reference, config)
    ours, theirs = (_costs(each, start, actions, config) for each in (model, reference))
    if not np.all(np.isfinite(ours)):
        return 0.0, -1.0
    ranks = [np.argsort(np.argsort(costs)) for costs in (ours, theirs)]
    elites = round(_ELITE_SHARE * len(ours))
    shared = np.mean(ranks[0][ranks[1] < elites] < elites)
    return float(shared), float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _costs(model: WorldModel, start: NDArray, actions: NDArray, config: MpcConfig) -> NDArray[np.float64]:
    """(N - 1,) of all but the last, whose path is the target."""
    latents = model.rollout(start, actions)
    grounded = model.ground(latents)
    tip = tuple(model.grounding_names.index(f"tip.{axis}") for axis in "xyz")
    rollouts = Rollouts(
        actions[:-1],
        actions[0, 0],
        latents[:-1],
        grounded[:-1],
        latents[-1],
        grounded[-1],
        latent_weight=1.0,
        goal_latent=latents[-1, -1],
    )
    terms = TipTracking("tip", tip, config.weight_tip), LatentTracking(config.weight_latent)
    return np.sum([term.cost(rollouts) for term in terms], axis=0)


def _candidates(model: WorldModel, config: MpcConfig) -> tuple[NDArray, NDArray]:
    """Latents (N, D), all the same, and actions (N, H, A), smooth and at random."""
    rng, size = np.random.default_rng(0), config.sampler
    basis = spline_basis(size.horizon, KNOTS)
    noise = rng.standard_normal((_CANDIDATES, basis.shape[1], len(size.sigma)), dtype=np.float32)
    actions = np.clip(basis @ noise * np.asarray(size.sigma), size.lower, size.upper)
    seen = still_observation(model, 0.0)
    latent = model.encode(seen.images, seen.proprio)
    return np.repeat(latent[None], _CANDIDATES, axis=0), actions.astype(np.float32)

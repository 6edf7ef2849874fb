"""The fast loop's core: belief, goal and sampler behind one `tick`, without ROS.

Each tick plans from the state predicted for the moment at which the plan will take effect, towards the
goal's imagined path; the slow policy's chunk is one of the planner's candidates.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.belief.belief import Belief, Correction
from wm_vla_ros.belief.bias import BiasEstimator
from wm_vla_ros.belief.delay import ActuationDelay, DelayEstimate
from wm_vla_ros.belief.divergence import DivergenceWatch
from wm_vla_ros.goals.buffer import GoalBuffer
from wm_vla_ros.goals.path import GroundedPath
from wm_vla_ros.goals.path_progress import PathProgress
from wm_vla_ros.planning.candidates import check_chunk
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.problem import Formulation, Situation
from wm_vla_ros.planning.samplers import NoFiniteCost
from wm_vla_ros.planning.search import Search
from wm_vla_ros.robots.linearised_arm import LinearisedArm, Lineariser
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.sensing.proprio_history import rows_in_order
from wm_vla_ros.types import (
    ActionChunk,
    AppliedAction,
    Fault,
    FloatArray,
    LatentGoal,
    LoopStats,
    Observation,
    Plan,
    Severity,
)
from wm_vla_ros.world_models.protocol import WorldModel

SOURCE = "mpc"


@dataclass(frozen=True, slots=True)
class TickResult:
    """plan is None when there is nothing to plan towards or from; the driver then holds.

    A plan of 0 iterations is what is left of the one before: there was no time for another. search_ms: of the
    tick, from candidates to plan.
    """

    plan: Plan | None
    stats: LoopStats
    faults: tuple[Fault, ...]
    search_ms: float


class MpcCore:
    """Fed by `on_*` from one thread, ticked from another. `tick` never waits for an encoder run.

    shifted_plans: ticks that had no time to plan and sent what was left of the plan before.
    """

    def __init__(
        self,
        model: WorldModel,
        spec: RobotSpec,
        config: MpcConfig | None = None,
        seed: int = 0,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config or MpcConfig()
        self._model = model
        self._spec = spec
        self._timer = timer
        self._actions = ActionTimeline(spec.dt)
        self._bias = BiasEstimator(spec.translation_scale, spec.dt)
        self._actuation = ActuationDelay(spec.translation_scale, spec.dt)
        self._belief = self._new_belief()
        self._divergence_watch = DivergenceWatch(self.config.divergence_bound, self.config.divergence_count)
        self._goals = GoalBuffer(model.encoder_id, model.latent_dim)
        names = proprio_names(spec)
        self._proprio_tip = [names.index(f"tip.position.{axis}") for axis in "xyz"]
        self._tip = [model.grounding_names.index(f"tip.{axis}") for axis in "xyz"]
        self._formulation = Formulation(model, spec, self.config)
        self._objective = self._formulation.objective
        self._search = Search(model, self._objective.terms, self.config, spec, seed)
        self._lineariser = Lineariser(spec) if self._objective.needs_arm else None
        self.shifted_plans = 0
        # Written by on_* under the lock, read by tick under the lock.
        self._lock = threading.Lock()
        self._path: GroundedPath | None = None
        self._progress = PathProgress()
        self._chunks: dict[int, ActionChunk] = {}
        self._joints_at: float | None = None
        self._last_plan: Plan | None = None
        self._arm_commanded: LinearisedArm | None = None
        self._sequence = 0
        self._ticks = 0
        self._search_ms = 0.0
        self._prediction_error = 0.0
        self._divergence = 0.0
        self._faults: list[Fault] = []

    def on_observation(self, observation: Observation) -> None:
        """Correct the belief at the image's own time. Raises ValueError as `WorldModel.encode`."""
        latent = self._model.encode(observation.images, observation.proprio)
        measured = observation.proprio[self._proprio_tip]
        with self._lock:
            correction = self._belief.observe(latent, observation.stamp)
            if correction is None:
                return
            if correction.prior is not None:
                error = self._model.ground(correction.prior[None])[0, self._tip] - measured
                self._prediction_error = float(np.linalg.norm(error))
            self._divergence = correction.divergence
            self._watch_divergence(correction)

    def on_applied(self, applied: AppliedAction) -> None:
        """Record what the driver did.

        Raises ValueError, where the objective looks at joints, on names that are not the robot's.
        """
        arm = None
        if self._lineariser is not None:  # here and not in the tick, which has no time to lose
            rows = rows_in_order(applied.joint_names, applied.joint_positions, self._spec)
            arm = self._lineariser.at(applied.joint_positions[rows])
        with self._lock:
            self._actions.applied(applied)
            if self._actions.last_stamp == applied.stamp:
                self._arm_commanded = arm

    def on_tip(self, tip: NDArray[np.float64], at: float) -> None:
        """Take the measured tip (3,) in metres at `at`, about once a tick: for drift and delay estimates.

        No plan is made when these stop coming: whatever moves the arm then, nobody sees it.
        """
        with self._lock:
            self._joints_at = at
            if self.config.bias:
                self._bias.update(tip, at, self._actions)
            motion = self._actuation.take(tip, at, self._actions)
        if motion is not None:  # too long to keep the planner waiting
            self._actuation.fit(motion)

    @property
    def actuation_delay(self) -> DelayEstimate | None:
        """How late the arm follows its commands; None before it has moved enough."""
        return self._actuation.estimate()

    def on_chunk(self, chunk: ActionChunk) -> None:
        """Keep the policy's chunk; it becomes a candidate when its goal arrives. Raises as `check_chunk`."""
        check_chunk(chunk, self._spec.dt)
        with self._lock:
            in_force = self._path.goal.sequence if self._path is not None else None
            kept = [entry for entry in self._chunks.items() if entry[0] != chunk.sequence]
            # The chunk of the goal in force goes last, however many come with goals that are refused.
            kept.sort(key=lambda entry: entry[0] != in_force)
            self._chunks = {chunk.sequence: chunk, **dict(kept[:3])}

    def on_goal(self, goal: LatentGoal, now: float) -> None:
        """Take over a goal. Raises GoalRefused, and keeps the earlier goal, when it is not valid."""
        with self._lock:
            self._goals.offer(goal, now)
            self._path = GroundedPath(goal, self._model, self.config.pace, self.config.contact_pace)
            self._progress.enter()

    def clear_goal(self) -> None:
        """Forget goal, path and chunks: the instruction has ended, the driver is to hold."""
        with self._lock:
            self._goals.clear()
            self._path = None
            self._progress = PathProgress()
            self._last_plan = None
            self._chunks.clear()

    def reset(self) -> None:
        """Forget everything observed: a new episode."""
        self.clear_goal()
        with self._lock:
            self._bias.reset()
            self._actuation.reset()
            self._actions = ActionTimeline(self._spec.dt)
            self._belief = self._new_belief()
            self._divergence_watch.reset()
            self._prediction_error, self._divergence = 0.0, 0.0

    def tick(
        self, now: float, late: float = 0.0, send: Callable[[Plan], None] = lambda plan: None
    ) -> TickResult:
        """Plan at `now`. The plan starts at the driver's next tick that is at least `lead` away.

        late: s since the tick was due, which count towards the deadline. send: given the plan as soon as
        there is one; what it is imagined to do is worked out for the report only after that.
        """
        begin = self._timer()
        with self._lock:
            self._ticks += 1
            self._search_ms = 0.0
            found_at: float | None = None

            def found(plan: Plan) -> None:
                nonlocal found_at
                found_at = self._timer()
                self._actions.planned(plan)
                send(plan)

            plan, imagined, iterations, dominant = self._plan(now, begin - late, found)
            newest = self._belief.newest
            stats = LoopStats(
                stamp=now,
                tick=self._ticks,
                lateness_ms=0.0,
                plan_ms=((self._timer() if found_at is None else found_at) - begin) * 1e3,
                observation_age_ms=(now - newest.stamp) * 1e3 if newest else -1.0,
                prediction_error=self._prediction_error,
                divergence=self._divergence,
                iterations=iterations,
                missed_ticks=0,
                dominant_term=dominant,
                imagined_tip=imagined,
            )
            faults, self._faults = tuple(self._faults), []
            return TickResult(plan, stats, faults, self._search_ms)

    def _plan(
        self, now: float, due: float, found: Callable[[Plan], None]
    ) -> tuple[Plan | None, FloatArray, int, str]:
        nothing = np.zeros((0, 3), np.float32)
        newest, path = self._belief.newest, self._path
        if path is None or newest is None or self._goals.current(now) is not path.goal:
            return None, nothing, 0, ""
        if self._divergence_watch.holding:
            self._fault(now, FaultCode.DIVERGENCE, "measurement and prediction disagree: no plan on either")
            return None, nothing, 0, ""
        if now - newest.stamp > self.config.max_observation_age:
            self._fault(now, FaultCode.OBSERVATION_OLD, f"newest image is {now - newest.stamp:.2f} s old")
            return None, nothing, 0, ""
        if self._joints_at is not None and now - self._joints_at > self.config.max_joint_age:
            self._fault(now, FaultCode.JOINTS_OLD, f"newest joints are {now - self._joints_at:.2f} s old")
            return None, nothing, 0, ""
        start = self._actions.next_tick(now + self.config.lead)
        latent = self._belief.predict(start) if self.config.predict else newest.observed
        last = self._actions.last_two(start)
        if latent is None or last is None:
            return None, nothing, 0, ""
        if not np.all(np.isfinite(latent)):  # nor would any future from there be
            self._fault(now, FaultCode.NO_FINITE_COST, "the predicted state is not finite")
            return None, nothing, 0, ""
        bias = np.zeros(7, np.float32)
        bias[:3] = self._bias.value
        chunk = self._chunks.get(path.goal.sequence)
        situation = Situation(
            start, latent, last, bias, self._divergence, path, chunk, self._last_plan, self._arm(start)
        )
        problem = self._formulation.problem(situation, self._progress)

        def out_of_time() -> bool:
            return self._timer() - due > self.config.deadline

        if out_of_time() and self._last_plan is not None:
            rest = self._last_plan.rest(start, self._sequence + 1)
            if rest is not None:
                self._sequence += 1
                self.shifted_plans += 1
                found(rest)
                return rest, nothing, 0, ""
        begin = self._timer()
        try:
            solution = self._search.solve(problem, out_of_time)
        except NoFiniteCost as error:
            self._fault(now, FaultCode.NO_FINITE_COST, str(error))
            return None, nothing, 0, ""
        self._search_ms = (self._timer() - begin) * 1e3
        self._sequence += 1
        plan = Plan(newest.stamp, self._sequence, SOURCE, start, self._spec.dt, solution.actions)
        found(plan)
        self._last_plan = plan
        final = problem.imagine(solution.actions[None])
        return plan, final.grounded[0][:, self._tip], solution.iterations, self._objective.dominant(final)

    def _arm(self, start: float) -> LinearisedArm | None:
        """The arm about its last command, for an objective that asks for it."""
        last = self._actions.last_stamp
        if self._arm_commanded is None or last is None:
            return None
        sent = self._actions.between(last + self._spec.dt, start)
        assert sent is not None  # of the future something is always known
        return self._arm_commanded.after(sent.actions)

    def _watch_divergence(self, correction: Correction) -> None:
        off = max(correction.divergence, self._doubt(correction))
        if not self._divergence_watch.update(off):
            return
        self._belief.reset()
        self._belief.observe(correction.observed, correction.stamp)
        then = "the arm holds until it fits again" if self._divergence_watch.holding else "it starts anew"
        text = f"the belief was {off:.3f} m off: {then}"
        self._fault(correction.stamp, FaultCode.DIVERGENCE, text)

    def _doubt(self, correction: Correction) -> float:
        """Metres of the tip that the world model does not vouch for, as `divergence_doubt` counts them."""
        if not self.config.divergence_doubt or correction.prior is None:
            return 0.0
        spread = self._model.spread(correction.prior[None])
        if spread is None:
            return 0.0
        return self.config.divergence_doubt * float(np.linalg.norm(spread[0, self._tip]))

    def _new_belief(self) -> Belief:
        return Belief(self._model, self._actions, self._bias, self.config.belief_gain or None)

    def _fault(self, now: float, code: FaultCode, text: str) -> None:
        self._faults.append(Fault(now, code.value, Severity.WARNING, SOURCE, text))

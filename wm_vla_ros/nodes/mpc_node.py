"""The fast loop: once or more per control tick a plan towards the latent goal, from the predicted state.

Three threads: the planner at absolute deadlines, under SCHED_FIFO where that is permitted; the executor,
which converts messages and runs the image encoder; the main thread, which waits for the end. No torch in
this process, unless there is a GPU or a runtime asks for it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from wm_vla_msgs import msg as wm
from wm_vla_ros import world_models
from wm_vla_ros.belief.delay import DelayEstimate, observation_delay
from wm_vla_ros.planning.cadence import MAX_RATE, cadence
from wm_vla_ros.planning.calibration import AUTO, choose_runtime
from wm_vla_ros.planning.config import MpcConfig, Tuning
from wm_vla_ros.planning.mpc import SOURCE, MpcCore
from wm_vla_ros.planning.samplers import SAMPLERS
from wm_vla_ros.planning.warm_up import rehearse
from wm_vla_ros.realtime import LatenessStats, OverrunWatch, Tick, Ticker
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.fault_output import FaultOutput
from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.ros.observer import Observer
from wm_vla_ros.ros.spin import run
from wm_vla_ros.ros.transport import wait_for_no_listener
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.scheduling import be_nice, request_fifo, settle_heap
from wm_vla_ros.settings import setting
from wm_vla_ros.types import AppliedAction, Observation, Plan
from wm_vla_ros.world_models.runtimes import RUNTIMES

# SCHED_FIFO priority of every other thread of this process, where the planner's is permitted.
_EXECUTOR_PRIORITY = 10
# Without it: whoever moves the arm goes before whoever plans for it, whose plans hold for ten more ticks.
_BEHIND_THE_DRIVER = 3
_WARM_UP_TICKS = 20
_DEFAULTS = MpcConfig()


@dataclass(frozen=True)
class MpcSettings(Tuning, NodeSettings):
    """The planner's settings; their defaults are the core's own. Weights and limits are `Tuning`'s."""

    robot: str = setting("", "robot spec, by name")
    world_model: str = setting("", "world model: a name in models/, or a folder")
    runtime: str = setting(
        AUTO, "what the world model's rollouts run on; auto: tried at start", choices=(AUTO, *RUNTIMES)
    )
    sampler: str = setting(_DEFAULTS.method, "how plans are searched for", choices=tuple(SAMPLERS))
    rate: float = setting(
        0.0,
        "plans per second, a whole multiple of the robot's control rate; 0: that rate",
        low=0.0,
        high=MAX_RATE,
    )
    samples: int = setting(_DEFAULTS.sampler.samples, "rollouts per iteration", low=8, high=1024)
    iterations: int = setting(_DEFAULTS.sampler.iterations, "iterations per tick", low=1, high=10)
    sampler_seed: int = setting(0, "seed of the sampler's noise", low=0, high=2**31 - 1)
    realtime_priority: int = setting(20, "SCHED_FIFO priority of the planner, 0: none", low=0, high=99)


class MpcNode(ManagedNode[MpcSettings]):
    """Translates between the graph and `MpcCore`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("mpc_node", MpcSettings, **kwargs)
        self._stop = threading.Event()

    def configure(self) -> None:
        settings = self.settings
        self._spec = spec = load_robot(settings.robot)
        self._cadence = cadence(settings.rate, spec.dt)
        self._config = self._mpc_config()
        self._runtime, self._model = choose_runtime(
            settings.runtime,
            lambda name: world_models.load(settings.world_model, robot=spec, runtime=name),
            spec,
            self._config,
            self.get_logger().info,
        )
        # Every model runs at its true shapes once, so that nothing is allocated or compiled inside the loop.
        for _ in rehearse(self._new_core(), self._model, spec, _WARM_UP_TICKS, self._cadence.phase):
            pass
        self._core = self._new_core()
        self._lateness = LatenessStats()
        self._overruns = OverrunWatch(self._cadence.period)
        self._observation_delay = observation_delay()
        self._applied_at: float | None = None
        self._writer = f"{self.get_fully_qualified_name()}-{os.getpid()}"
        self._plans = self.create_publisher(wm.Plan, "plan", qos.LATEST)
        self._stats = self.create_publisher(wm.LoopStats, "loop_stats", qos.REPORT)
        self._faults = FaultOutput(self, self.clock, self.stamps, SOURCE)
        self.create_subscription(wm.ActionChunk, "action_chunk", self._on_chunk, qos.LATEST)
        self.create_subscription(wm.LatentGoal, "latent_goal", self._on_goal, qos.LATEST)
        self._observer = Observer(
            self,
            self.stamps,
            spec,
            tuple(self._model.manifest.cameras),
            on_observation=self._on_observation,
            on_tip=self._core.on_tip,
            on_applied=self._on_applied,
            on_jump=self._on_jump,
            on_refused=partial(self._faults.warn, FaultCode.REFUSED),
        )

    def activate(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self.guard(self._loop), name="planner")
        self._thread.start()

    def deactivate(self) -> None:
        self._stop.set()
        self._thread.join()

    def _new_core(self) -> MpcCore:
        return MpcCore(self._model, self._spec, self._config, seed=self.settings.sampler_seed)

    def _mpc_config(self) -> MpcConfig:
        settings = self.settings
        tuning = settings.tuning() | {"deadline": min(settings.deadline, self._cadence.deadline)}
        sampler = replace(_DEFAULTS.sampler, samples=settings.samples, iterations=settings.iterations)
        return MpcConfig(method=settings.sampler, sampler=sampler, **tuning)

    # The planner's thread.
    def _loop(self) -> None:
        if not request_fifo(_EXECUTOR_PRIORITY, self.settings.realtime_priority, self.get_logger().warning):
            be_nice(_BEHIND_THE_DRIVER)
        settle_heap()
        timing = self._cadence
        ticker = Ticker(self.clock, timing.period)
        missed = 0
        while not self._stop.is_set():
            tick = ticker.wait()
            missed += tick.missed
            self._tick(tick, missed)
            if self._applied_at is not None:
                ticker.align(self._applied_at + timing.phase, timing.tolerance)

    def _tick(self, tick: Tick, missed: int) -> None:
        now = self.clock.now()
        result = self._core.tick(now, tick.lateness, self._publish_plan)
        stats = replace(result.stats, lateness_ms=tick.lateness * 1e3, missed_ticks=missed)
        self._stats.publish(convert.stats_to_msg(stats, self.stamps))
        for fault in result.faults:
            self._faults.report(fault)
        self._faults.flush()
        self._lateness.add(tick.lateness, tick.missed)
        too_slow = self._overruns.add(self.clock.now() - tick.deadline, tick.missed)
        if too_slow is not None:
            self._faults.warn(FaultCode.DEGRADED, too_slow)

    def _publish_plan(self, plan: Plan) -> None:
        self._plans.publish(convert.plan_to_msg(plan, self.stamps, self._writer))

    # Callbacks, in the executor's thread.
    def _on_observation(self, observation: Observation) -> None:
        self._observation_delay.add(self.clock.now() - observation.stamp)
        self._core.on_observation(observation)

    def _on_applied(self, applied: AppliedAction) -> None:
        self._applied_at = applied.stamp
        self._core.on_applied(applied)

    def _on_jump(self, joints: tuple[str, ...]) -> None:
        self._core.reset()
        self._faults.warn(
            FaultCode.JOINT_JUMP, f"{', '.join(joints)} suddenly elsewhere: the belief starts anew"
        )

    def _on_chunk(self, message: wm.ActionChunk) -> None:
        try:
            self._core.on_chunk(convert.chunk_from_msg(message, self.stamps))
        except ValueError as error:
            self._faults.warn(FaultCode.REFUSED, str(error))

    def _on_goal(self, message: wm.LatentGoal) -> None:
        if convert.is_withdrawal(message):
            self._core.clear_goal()
            return
        try:
            self._core.on_goal(convert.goal_from_msg(message, self.stamps), self.clock.now())
        except ValueError as error:
            self._faults.warn(FaultCode.GOAL_REFUSED, f"goal {message.sequence}: {error}")

    def health(self) -> tuple[str, dict[str, object]]:
        return "cycles overrun" if self._overruns.degraded else "", {
            "world_model": self._model.manifest.name,
            "runtime": self._runtime,
            **self._lateness.summary(),
            "cycle_p99_ms": round(self._overruns.p99 * 1e3, 3),
            "shifted_plans": self._core.shifted_plans,
            **_in_words("observation_delay", self._observation_delay.estimate()),
            **_in_words("actuation_delay", self._core.actuation_delay),
        }


def _in_words(name: str, delay: DelayEstimate | None) -> dict[str, object]:
    if delay is None:
        return {name: "not known yet"}
    return {
        f"{name}_ms": round(delay.value * 1e3, 2),
        f"{name}_deviation_ms": round(delay.deviation * 1e3, 2),
        f"{name}_samples": delay.samples,
    }


def main() -> NoReturn:
    """Entry point. The exit code says whether the node ended as it should."""
    wait_for_no_listener()
    run(MpcNode)


if __name__ == "__main__":
    main()

"""Cases that load the running stack instead of ending a process: lost time, floods of goals, long inference.

The fast loop must go on at its rate, or say that it does not; what the driver wrote is judged besides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from wm_vla_ros import world_models
from wm_vla_ros.bringup.stack import FAST, SLOW
from wm_vla_ros.config import defaults
from wm_vla_ros.faults.invariants import judge_running
from wm_vla_ros.faults.live_stack import LiveStack, live_stack
from wm_vla_ros.recording import Recording, between
from wm_vla_ros.report import Figure
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.limits import ArmLimits
from wm_vla_ros.tasks.task import INSTRUCTIONS
from wm_vla_ros.types import LatentGoal

LEAST_RATE = 49.0  # Hz
MOST_GROWTH = 5.0  # MB
FLOOD_RATE, FLOOD_SECONDS = 1000.0, 8.0
INFERENCE_SECONDS = (0.2, 1.0, 3.0, 10.0)  # s
_INSTRUCTIONS = tuple(INSTRUCTIONS)
_FLOODS, _OF_THE_FLOOD = 5, 0.95  # attempts at one that is as strong as it should be
_INTERRUPTED = 2.4  # s
_SETTLED = 1.0  # s, for what was sent to be heard and what was valid to run out
_STEPS = 51  # of a goal's path, as the shipped policy's chunks make them


@dataclass(frozen=True)
class Load:
    """One run. rate: of the fast loop, Hz. growth: of its resident memory, MB, where that is judged."""

    violations: tuple[str, ...]
    rate: float
    growth: float | None = None


@dataclass(frozen=True)
class LoadCase:
    """Number in FAULTS order, and what puts the load on: given which run it is, from 0."""

    number: int
    inject: str
    expected: str
    run: Callable[[LoadedStack, int], Load]

    def figures(self, loads: list[Load]) -> tuple[Figure, ...]:
        """The worst of all runs."""
        name = f"faults.case_{self.number}"
        figures = [Figure(f"{name}_rate_hz", round(min(each.rate for each in loads), 2), "Hz", len(loads))]
        growth = [each.growth for each in loads if each.growth is not None]
        if growth:
            figures.append(Figure(f"{name}_growth_mb", round(max(growth), 2), "MB", len(growth)))
        return tuple(figures)


class LoadedStack(LiveStack):
    """A stack that is put under load."""

    def __init__(self, *given: object) -> None:
        from wm_vla_msgs import msg as wm
        from wm_vla_ros.ros import qos

        super().__init__(*given)  # type: ignore[arg-type]
        self._model = world_models.load(defaults().world_model, robot=self.spec)
        self.inferences: list[float] = []  # when the slow loop sent what it had inferred, s
        self._goals = self.client.node.create_publisher(wm.LatentGoal, "latent_goal", qos.LATEST)
        self.client.listen(
            wm.ActionChunk, "action_chunk", qos.LATEST, lambda _: self.inferences.append(time.monotonic())
        )
        self._sequence = 0

    def judged(self, start: float, end: float, least: float = LEAST_RATE) -> tuple[list[str], float]:
        """`judge_span` as soon as everything has been heard, and who of the stack has ended."""
        self.wait(_SETTLED)
        violations, rate = judge_span(self.recording, self.spec, start, end, least)
        return [*(each.text for each in self.runner.poll()), *violations], rate

    def flood(self, seconds: float, rate: float) -> float:
        """Send goals at `rate` Hz, good and bad in turns; returns the rate that came of it, Hz."""
        # One that waits for a processor behind whatever else runs on this machine is no flood.
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        try:
            return self._send_goals(seconds, rate)
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def _send_goals(self, seconds: float, rate: float) -> float:
        from wm_vla_ros.ros import convert
        from wm_vla_ros.ros.time import StampConverter

        stamps = StampConverter()
        kinds = [convert.goal_to_msg(goal, stamps) for goal in self._flood_goals()]
        begun, sent = time.monotonic(), 0
        while (now := time.monotonic()) < begun + seconds:
            message = kinds[sent % len(kinds)]
            self._sequence += 1
            message.sequence = self._sequence
            message.header.stamp = stamps.to_stamp(now)
            self._goals.publish(message)
            sent += 1
            time.sleep(max(0.0, begun + sent / rate - time.monotonic()))
        return sent / seconds

    def _flood_goals(self) -> Iterator[LatentGoal]:
        manifest = self._model.manifest
        images = {name: np.zeros((*size, 3), np.uint8) for name, size in manifest.cameras.items()}
        latent = self._model.encode(images, np.zeros(len(manifest.proprio_names), np.float32))
        path = np.repeat(latent[None], _STEPS, axis=0)
        good = LatentGoal(0.0, 0, "flood", self._model.encoder_id, path, self.spec.dt, 0.5)
        spoiled = path.copy()
        spoiled[_STEPS // 2, 0] = np.nan
        yield good
        yield replace(good, embeddings=spoiled)
        yield good
        yield replace(good, encoder_id="another")


def judge_span(
    recording: Recording, spec: ArmLimits, start: float, end: float, least: float = LEAST_RATE
) -> tuple[list[str], float]:
    """What broke between two times, s, and the fast loop's rate there, Hz: cycles that it made, over time.

    least: Hz that the rate must have.
    """
    violations = judge_running(between(recording.applied, start, end), recording.faults, spec)
    stats = between(recording.stats, start, end)
    rate = (stats[-1].tick - stats[0].tick + 1) / (end - start) if stats else 0.0
    if rate < least:
        violations.append(f"the fast loop made {rate:.2f} cycles a second")
    return violations, rate


def cycles_overrun(stack: LoadedStack, run: int) -> Load:
    """Case 16: an interruption of two periods takes one cycle at least past its own."""
    execution = stack.client.execute(_INSTRUCTIONS[run % len(_INSTRUCTIONS)])
    stack.wait(_SETTLED)
    start = time.monotonic()
    while time.monotonic() < start + _INTERRUPTED:
        stack.pause(FAST, 0.04)
        stack.wait(0.36)
    end = time.monotonic()
    execution.cancel()
    violations, rate = stack.judged(start, end, least=0.0)
    faults = between(stack.recording.faults, start, end)
    reported = [each for each in faults if each.code == FaultCode.DEGRADED]
    if not reported or reported[0].stamp > start + 1.0:
        came = [round(each.stamp - start, 2) for each in reported]
        violations.append(f"no degraded fault within 1 s, but after {came} s")
    violations += [f"no p99 in {each.text!r}" for each in reported if "p99" not in each.text]
    return Load(tuple(violations), rate)


def goal_flood(stack: LoadedStack, run: int) -> Load:
    """Case 25. A flood that a busy machine held back is repeated; what it did counts all the same."""
    floods = []
    for _ in range(_FLOODS):
        achieved, load = _flooded(stack, run)
        floods.append(load)
        if achieved >= _OF_THE_FLOOD * FLOOD_RATE:
            break
    else:
        floods.append(replace(load, violations=(f"only {achieved:.0f} goals a second came",)))
    violations = tuple(text for each in floods for text in each.violations)
    return Load(violations, min(each.rate for each in floods), max(each.growth or 0.0 for each in floods))


def _flooded(stack: LoadedStack, run: int) -> tuple[float, Load]:
    execution = stack.client.execute(_INSTRUCTIONS[run % len(_INSTRUCTIONS)])
    stack.wait(_SETTLED)
    before, start = stack.memory(FAST), time.monotonic()
    achieved = stack.flood(FLOOD_SECONDS, FLOOD_RATE)
    end = time.monotonic()
    growth = stack.memory(FAST) - before
    execution.cancel()
    violations, rate = stack.judged(start, end)
    if growth >= MOST_GROWTH:
        violations.append(f"the planner's memory grew by {growth:.1f} MB")
    faults = between(stack.recording.faults, start, end)
    if not any(each.code == FaultCode.GOAL_REFUSED for each in faults):
        violations.append("no bad goal was refused")
    return achieved, Load(tuple(violations), rate, growth)


def long_inferences(stack: LoadedStack, run: int) -> Load:
    """Case 26."""
    seconds = INFERENCE_SECONDS[run % len(INFERENCE_SECONDS)]
    stack.client.set_parameters(SLOW, vla_latency=seconds)
    start = time.monotonic()
    execution = stack.client.execute(_INSTRUCTIONS[run % len(_INSTRUCTIONS)], time_limit=seconds + 8.0)
    stack.wait(seconds + 3.0)
    end = time.monotonic()
    execution.cancel()
    came = [round(at - start, 2) for at in stack.inferences if start <= at <= end]
    violations, rate = stack.judged(start, end)
    stack.client.set_parameters(SLOW, vla_latency=0.0)
    if not came or came[0] < seconds:
        violations.append(f"the slow loop sent something after {came[:3]} s")
    return Load(tuple(f"{seconds} s: {text}" for text in violations), rate)


CASES = (
    LoadCase(
        16,
        "10 % of cycles overrun: the planner's process interrupted for 40 ms every 400 ms",
        "degraded fault <= 1 s; p99 reported",
        cycles_overrun,
    ),
    LoadCase(
        25,
        f"goal flood at {FLOOD_RATE:.0f} Hz for {FLOOD_SECONDS:.0f} s a run, half of them bad",
        f"planner >= {LEAST_RATE:.0f} Hz; memory growth < {MOST_GROWTH:.0f} MB",
        goal_flood,
    ),
    LoadCase(
        26,
        f"slow loop takes {', '.join(f'{each:g}' for each in INFERENCE_SECONDS)} s longer, in turns",
        f"fast loop >= {LEAST_RATE:.0f} Hz throughout",
        long_inferences,
    ),
)


def run_load(
    numbers: tuple[int, ...], runs: int, robot: str, log: Callable[[str], None]
) -> Iterator[tuple[LoadCase, list[Load]]]:
    """Every case in `numbers` that loads the stack, `runs` times each, on one stack.

    log: takes the stack's lines. Raises StackRefused when the stack does not come up or stay up.
    """
    chosen = [case for case in CASES if case.number in numbers]
    if not chosen or runs == 0:
        return
    with live_stack(LoadedStack, robot, log) as loaded:
        for case in chosen:
            yield case, [case.run(loaded, run) for run in range(runs)]

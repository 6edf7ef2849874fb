"""Three instructions on a running stack, watched from outside, with the simulator's own view as the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.clock import Clock, MonotonicClock
from wm_vla_ros.recording import Moment, Recording, TimeSpan, held_rate, loop_figures, wait_for_the_end
from wm_vla_ros.report import Figure
from wm_vla_ros.robots.kinematics import Kinematics
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.sim.layout import sample_layout
from wm_vla_ros.tasks.task import CUBES, Task, from_instruction

if TYPE_CHECKING:
    from wm_vla_ros.bringup.client import StackClient

LEAST_RATE = 49.5
# Cameras and belief see the new scene before the instruction comes.
_SETTLE = 0.7
_GRACE = 5.0
_REFRESH = 0.1


@dataclass(frozen=True, slots=True)
class Leg:
    """One instruction in a scene of its own."""

    instruction: str
    seed: int


def legs(first_seed: int) -> tuple[Leg, ...]:
    """Two reaches and a push, in scenes that belong to `first_seed`."""
    instructions = ("touch the red cube", "touch the green cube", "push the blue cube to the green pad")
    return tuple(Leg(text, first_seed + index) for index, text in enumerate(instructions))


@dataclass(slots=True)
class LegResult:
    """span: s on the monotonic clock; followed: the part of it with a goal, None without one.

    distance: m that were missing at the end. success_after: s, or None.
    """

    leg: Leg
    span: TimeSpan
    followed: TimeSpan | None
    outcome: str
    distance: float
    success_after: float | None


class Truth:
    """Whether a task is done, from the simulator's joints and objects; the models have no part in it."""

    def __init__(self, spec: RobotSpec) -> None:
        self._kinematics = Kinematics(spec)
        self._task: Task | None = None
        self._pads: dict[str, NDArray[np.float64]] = {}
        self.distance = float("nan")
        self.done_at: float | None = None
        self._since = 0.0

    def watch(self, task: Task, seed: int, since: float) -> None:
        """Judge `task` in the scene of `seed` from the time `since` (s) on."""
        self._task = None
        self._pads = {name: np.array([*xy, 0.0]) for name, xy in sample_layout(seed, task).pads.items()}
        self.distance, self.done_at, self._since = float("nan"), None, since
        self._task = task

    def on_moment(self, moment: Moment) -> None:
        """Take what the simulator says. Called from the recorder's thread."""
        task = self._task
        if task is None or moment.stamp < self._since:
            return
        tip = self._kinematics.tip_position(moment.joints)
        cubes = dict(zip(CUBES, moment.poses[:, :3], strict=True))
        self.distance = task.distance(tip, cubes, self._pads)
        if self.done_at is None and task.success(tip, cubes, self._pads):
            self.done_at = moment.stamp


@dataclass(slots=True)
class Status:
    """What the live display shows. distance: m, the simulator's; believed: m, the world model's."""

    leg: int
    instruction: str
    elapsed: float = 0.0
    distance: float = float("nan")
    believed: float = float("nan")
    predicted_success: float = float("nan")
    rate_hz: float = float("nan")
    plan_ms: float = float("nan")
    observation_age_ms: float = float("nan")
    results: list[LegResult] = field(default_factory=list)


def run_legs(
    client: StackClient,
    recording: Recording,
    truth: Truth,
    plan: Sequence[Leg],
    show: Callable[[Status], None],
    clock: Clock | None = None,
) -> list[LegResult]:
    """Give each instruction and wait for its end."""
    clock = clock or MonotonicClock()
    results: list[LegResult] = []
    for index, leg in enumerate(plan):
        task = from_instruction(leg.instruction)
        client.reset_scene(leg.seed, leg.instruction)
        clock.sleep_until(clock.now() + _SETTLE)
        status = Status(index, leg.instruction, results=results)

        def heard(feedback: object, status: Status = status) -> None:
            status.believed = feedback.distance  # type: ignore[attr-defined]
            status.predicted_success = feedback.predicted_success  # type: ignore[attr-defined]

        start = clock.now()
        truth.watch(task, leg.seed, start)
        execution = client.execute(leg.instruction, on_feedback=heard)
        while not execution.done and clock.now() - start < task.time_limit + _GRACE:
            clock.sleep_until(clock.now() + _REFRESH)
            _update(status, recording, truth, clock.now() - start)
            show(status)
        outcome = "no answer"
        if execution.done:
            outcome = execution.result(0.0).outcome
        else:
            execution.cancel()
        end = clock.now()
        done_at = truth.done_at
        in_time = done_at is not None and done_at - start <= task.time_limit
        after = done_at - start if done_at is not None and in_time else None
        results.append(
            LegResult(leg, TimeSpan(start, end), execution.followed(end), outcome, truth.distance, after)
        )
        show(status)
    wait_for_the_end(recording, results[-1].span.end, clock)
    return results


def _update(status: Status, recording: Recording, truth: Truth, elapsed: float) -> None:
    status.elapsed = elapsed
    status.distance = truth.distance
    recent = recording.stats[-50:]
    if len(recent) > 1:
        last = recent[-1]
        status.rate_hz = (last.tick - recent[0].tick) / (last.stamp - recent[0].stamp)
        status.plan_ms = last.plan_ms
        status.observation_age_ms = last.observation_age_ms


def demo_figures(
    recording: Recording, results: Sequence[LegResult], dt: float
) -> tuple[tuple[Figure, ...], bool]:
    """The demo's figures, and whether it passed: 50 Hz held, and at least two of three instructions done."""
    span = TimeSpan(results[0].span.start, results[-1].span.end)
    followed = [result.followed for result in results if result.followed is not None]
    loop = loop_figures(recording, span, followed, dt)
    successes = sum(result.success_after is not None for result in results)
    rate_held = held_rate(loop, LEAST_RATE)
    own = [
        Figure("demo.successes", successes, "", len(results)),
        Figure("demo.rate_held", rate_held),
        *(
            Figure(f"demo.time_{index + 1}_s", result.success_after or float("nan"), "s", 1)
            for index, result in enumerate(results)
        ),
    ]
    return (*own, *loop), rate_held and successes >= 2


def stopwatch() -> Callable[[], float]:
    """Seconds since this call."""
    begin = time.monotonic()
    return lambda: time.monotonic() - begin

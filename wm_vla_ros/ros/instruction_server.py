"""The ExecuteInstruction action: one instruction at a time, a newer one takes over, a cancel is heard soon.

What following an instruction means is the node's; when it has to end is decided here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from wm_vla_msgs.action import ExecuteInstruction
from wm_vla_ros.clock import Clock

Result = ExecuteInstruction.Result
# Longest wait between two checks whether an instruction still holds, s.
CHECK_PERIOD = 0.1
# Seconds that a shutdown waits for the running instruction to notice.
_DRAIN = 10.0


class Interrupted(Exception):
    """The instruction has to end before it is done; `outcome` is one of the result's constants."""

    def __init__(self, outcome: int, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclass(slots=True, eq=False)
class InstructionRun:
    """One instruction under way. started: s on the clock; limit: s after it."""

    instruction: str
    started: float
    limit: float
    _clock: Clock
    _goal: ServerGoalHandle
    _ended_by: list[Interrupted] = field(default_factory=list)

    def check(self) -> None:
        """Raises Interrupted when the instruction has to end: canceled, replaced, out of time, shutdown."""
        if self._ended_by:
            raise self._ended_by[0]
        if self._goal.is_cancel_requested:
            raise Interrupted(Result.CANCELED, "canceled")
        if self._clock.now() - self.started > self.limit:
            raise Interrupted(Result.TIMED_OUT, f"not done within {self.limit:g} s")

    def sleep_until(self, until: float) -> None:
        """Sleep until a time, s on the clock. Raises Interrupted as `check`, soon."""
        while (left := until - self._clock.now()) > 0.0:
            self.check()
            self._clock.sleep_until(self._clock.now() + min(left, CHECK_PERIOD))
        self.check()

    def report(self, distance: float, predicted_success: float) -> None:
        """Feedback to whoever asked; NaN where nothing measures or estimates."""
        self._goal.publish_feedback(
            ExecuteInstruction.Feedback(
                distance=distance,
                predicted_success=predicted_success,
                elapsed=self._clock.now() - self.started,
            )
        )

    def end(self, cause: Interrupted) -> None:
        """Have the next `check` raise `cause`; the first cause wins."""
        self._ended_by.append(cause)


class InstructionServer:
    """Serves `execute_instruction`.

    time_limit: seconds for an instruction whose goal gives none; raises ValueError to refuse it, in words.
    follow: does it, calls `run.check()` often, returns when it is done; runs in a thread of the pool.
    ended: called once after each, with the instruction, unless another one has taken over.
    refused: takes the words for an instruction that was refused, since a rejected goal carries none.
    """

    def __init__(
        self,
        node: Node,
        clock: Clock,
        *,
        time_limit: Callable[[str], float],
        follow: Callable[[InstructionRun], None],
        ended: Callable[[str], None],
        refused: Callable[[str], None],
    ) -> None:
        self._node = node
        self._clock = clock
        self._time_limit = time_limit
        self._follow = follow
        self._ended = ended
        self._refused = refused
        # Guards the two below; notified when a run ends.
        self._lock = threading.Condition()
        self._current: InstructionRun | None = None
        self._under_way = 0
        self._server = ActionServer(
            node,
            ExecuteInstruction,
            "execute_instruction",
            execute_callback=self._execute,
            goal_callback=self._judge,
            cancel_callback=lambda _goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    @property
    def current(self) -> str:
        """The instruction under way, or an empty string."""
        run = self._current
        return run.instruction if run else ""

    def stop(self) -> bool:
        """End what is under way and wait for it. True when it ended in time."""
        with self._lock:
            if self._current is not None:
                self._current.end(Interrupted(Result.FAULTED, "the slow loop is shutting down"))
            return self._lock.wait_for(lambda: self._under_way == 0, _DRAIN)

    def destroy(self) -> None:
        """Take the action off the graph."""
        self._server.destroy()

    def _judge(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        try:
            if not (math.isfinite(request.time_limit) and request.time_limit >= 0.0):
                raise ValueError(f"time_limit must be a number of seconds, got {request.time_limit}")
            self._time_limit(request.instruction)
        except ValueError as error:
            self._refused(str(error))
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _execute(self, goal: ServerGoalHandle) -> Result:
        instruction = goal.request.instruction
        limit = goal.request.time_limit or self._time_limit(instruction)
        run = InstructionRun(instruction, self._clock.now(), limit, self._clock, goal)
        with self._lock:
            if self._current is not None:
                self._current.end(Interrupted(Result.CANCELED, "a newer instruction took over"))
            self._current = run
            self._under_way += 1
        try:
            result = self._run(run, goal)
        finally:
            with self._lock:
                self._under_way -= 1
                mine = self._current is run
                if mine:
                    self._current = None
                self._lock.notify_all()
            if mine:
                self._ended(instruction)
        result.elapsed = self._clock.now() - run.started
        self._node.get_logger().info(f"{instruction}: {result.text} ({result.elapsed:.1f} s)")
        return result

    def _run(self, run: InstructionRun, goal: ServerGoalHandle) -> Result:
        try:
            self._follow(run)
        except Interrupted as cause:
            if goal.is_cancel_requested:
                goal.canceled()
            else:
                goal.abort()
            return Result(outcome=cause.outcome, text=str(cause))
        except Exception as error:
            goal.abort()
            self._refused(f"{run.instruction!r} failed: {type(error).__name__}: {error}")
            return Result(outcome=Result.FAULTED, text=str(error))
        goal.succeed()
        return Result(outcome=Result.SUCCEEDED, text="done")

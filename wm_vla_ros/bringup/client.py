"""A running stack seen from outside: what the demo, the benchmark and the graph tests have in common.

Callbacks run in one thread of this client; every wait has an end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from wm_vla_msgs.action import ExecuteInstruction
from wm_vla_ros.clock import MonotonicClock
from wm_vla_ros.recording import TimeSpan
from wm_vla_ros.ros.executor import Executor
from wm_vla_ros.ros.time import StampConverter

OUTCOMES = {
    value: name.lower()
    for name, value in vars(ExecuteInstruction.Result).items()
    if name.isupper() and isinstance(value, int)
}
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an instruction ended. outcome: "succeeded", "timed_out", "canceled", "faulted" or "rejected"."""

    outcome: str
    text: str
    elapsed: float


class StackClient:
    """Talks to the stack under `namespace`. Use as a context manager."""

    def __init__(self, namespace: str = "") -> None:
        self._clock = MonotonicClock()
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self.node = Node(
            f"client_{os.getpid()}", namespace=namespace, context=self._context, enable_rosout=False
        )
        self._executor = Executor(self._context)
        self._executor.add_node(self.node)
        self._action = ActionClient(self.node, ExecuteInstruction, "execute_instruction")
        self._services: dict[tuple[type, str], Any] = {}
        self._thread = threading.Thread(target=self._executor.spin, name="client", daemon=True)
        self._thread.start()

    def __enter__(self) -> StackClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=5.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, kind: type, topic: str, profile: Any, callback: Callable[[Any], None]) -> None:
        """Have `callback` called for every message of `topic`."""
        self.node.create_subscription(kind, topic, callback, profile)

    def wait_until_active(
        self, names: Iterable[str], timeout: float, alive: Callable[[], bool] = lambda: True
    ) -> None:
        """Return when every lifecycle node is active. timeout: s.

        alive: asked in between; False ends the wait. Raises TimeoutError naming the nodes that are not
        active, and what they are instead.
        """
        waiting = dict.fromkeys(names, "not on the graph")
        deadline = self._clock.now() + timeout
        while waiting:
            for name in list(waiting):
                response = self._try_call(GetState, f"{name}/get_state", GetState.Request())
                if response is None:
                    continue
                waiting[name] = response.current_state.label
                if response.current_state.id == State.PRIMARY_STATE_ACTIVE:
                    del waiting[name]
            if waiting and (self._clock.now() > deadline or not alive()):
                raise TimeoutError("; ".join(f"{name} is {state}" for name, state in waiting.items()))
            self._clock.sleep_until(self._clock.now() + (_POLL if waiting else 0.0))

    def set_parameters(self, node: str, **values: Any) -> None:
        """Set parameters of `node`. Raises ValueError with the node's own reason when it refuses one."""
        request = SetParameters.Request()
        request.parameters = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        response = self._call(SetParameters, f"{node}/set_parameters", request)
        for name, result in zip(values, response.results, strict=True):
            if not result.successful:
                raise ValueError(f"{node}: {name}: {result.reason}")

    def trigger(self, service: str) -> str:
        """Call a Trigger service; returns its words. Raises ValueError with them when it says no."""
        response = self._call(Trigger, service, Trigger.Request())
        if not response.success:
            raise ValueError(f"{service}: {response.message}")
        return response.message

    def reset_scene(self, seed: int, layout_for: str = "") -> None:
        """A new scene. layout_for: instruction whose way the layout keeps free."""
        self.set_parameters("driver_node", seed=seed, layout_for=layout_for)
        self.trigger("sim/reset")

    def execute(
        self,
        instruction: str,
        time_limit: float = 0.0,
        on_feedback: Callable[[ExecuteInstruction.Feedback], None] = lambda feedback: None,
    ) -> Execution:
        """Send an instruction. Raises TimeoutError when nobody serves the action."""
        if not self._action.wait_for_server(timeout_sec=10.0):
            raise TimeoutError("nobody serves execute_instruction")
        goal = ExecuteInstruction.Goal(instruction=instruction, time_limit=time_limit)
        execution = Execution(instruction, self._in_executor)

        def heard(message: Any) -> None:
            execution.on_feedback(message.feedback)
            on_feedback(message.feedback)

        def send() -> None:
            sent = self._action.send_goal_async(goal, feedback_callback=heard)
            sent.add_done_callback(execution.on_answer)

        self._in_executor(send)
        return execution

    def _in_executor(self, work: Callable[[], None]) -> None:
        """Do `work` in the client's thread.

        rclpy's action client notes a request after it has sent it: an answer that another thread takes in
        between is thrown away as unexpected, and the future never completes.
        """
        self._executor.create_task(work)

    def _call(self, kind: type, name: str, request: Any, timeout: float = 10.0) -> Any:
        deadline = self._clock.now() + timeout
        while self._clock.now() < deadline:
            response = self._try_call(kind, name, request, deadline - self._clock.now())
            if response is not None:
                return response
        raise TimeoutError(f"{name} does not answer within {timeout:g} s")

    def _try_call(self, kind: type, name: str, request: Any, timeout: float = 2.0) -> Any:
        client = self._services.get((kind, name))
        if client is None:
            client = self._services[kind, name] = self.node.create_client(kind, name)
        if not client.wait_for_service(timeout_sec=min(timeout, 0.2)):
            return None
        answered: Future[Any] = Future()
        client.call_async(request).add_done_callback(lambda future: _pass_on(future, answered))
        try:
            return answered.result(timeout)
        except TimeoutError:
            return None


class Execution:
    """An instruction that was sent; `result` waits for its end."""

    def __init__(self, instruction: str, in_executor: Callable[[Callable[[], None]], None]) -> None:
        self.instruction = instruction
        self._in_executor = in_executor
        self._handle: Any = None
        self._cancel_asked = False
        self._outcome: Future[Outcome] = Future()
        self._accepted = threading.Event()
        self._accepted_at = float("nan")
        self._first_goal_after: float | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._outcome.done()

    def accepted(self, timeout: float) -> bool:
        """Whether the stack took it within `timeout` s."""
        return self._accepted.wait(timeout)

    def result(self, timeout: float) -> Outcome:
        """How it ended. Raises TimeoutError after `timeout` s."""
        return self._outcome.result(timeout)

    def followed(self, until: float) -> TimeSpan | None:
        """When the stack had a goal of this instruction, by its own clock; None when it never had.

        until: s, where it is still under way. A busy client hears of both ends late, so what it hears
        when does not count.
        """
        if self._first_goal_after is None:
            return None
        end = self._accepted_at + self.result(0.0).elapsed if self.done else until
        return TimeSpan(self._accepted_at + self._first_goal_after, end)

    def cancel(self) -> None:
        """Ask for an end; `result` tells when it came."""
        self._in_executor(self._cancel)

    def _cancel(self) -> None:
        self._cancel_asked = True
        if self._handle is not None:
            self._handle.cancel_goal_async()

    def on_feedback(self, feedback: ExecuteInstruction.Feedback) -> None:
        """The stack has a goal. Called in the client's thread."""
        if self._first_goal_after is None:
            self._first_goal_after = feedback.elapsed

    def on_answer(self, future: Any) -> None:
        """The server took the instruction or rejected it. Called in the client's thread."""
        handle = future.result()
        if not handle.accepted:
            text = f"{self.instruction!r} was rejected; the fault it caused names the valid ones"
            self._outcome.set_result(Outcome("rejected", text, 0.0))
            return
        self._handle = handle
        self._accepted_at = StampConverter().to_seconds(handle.stamp)
        self._accepted.set()
        handle.get_result_async().add_done_callback(self._on_result)
        if self._cancel_asked:
            handle.cancel_goal_async()

    def _on_result(self, future: Any) -> None:
        answer = future.result()
        if answer.status == GoalStatus.STATUS_UNKNOWN:
            self._outcome.set_result(Outcome("faulted", "the slow loop forgot the instruction", 0.0))
            return
        result = answer.result
        self._outcome.set_result(Outcome(OUTCOMES[result.outcome], result.text, result.elapsed))


def _pass_on(future: Any, answered: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        answered.set_exception(error)
    else:
        answered.set_result(future.result())

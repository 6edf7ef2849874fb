"""The base of every node here: a lifecycle node that can also start itself, and that fails by name.

A subclass implements plain methods and raises plain exceptions:

    configure()    load files and models, create publishers, subscriptions, services and timers
    activate()     start threads and timers: from here on the node acts
    deactivate()   stop acting
    cleanup()      let go of what configure() loaded; the ROS entities it made go by themselves

With `autostart` (the default) `run` takes the node to active by itself; without it a lifecycle manager
does. A configure that fails under autostart ends the process with EXIT_REFUSED.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import State
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.lifecycle import LifecycleState as RclpyState

from wm_vla_ros.ros import qos
from wm_vla_ros.ros.params import Parameters
from wm_vla_ros.ros.time import RosClock, node_clock
from wm_vla_ros.settings import setting

EXIT_FAILED = 1
EXIT_REFUSED = 3
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
# What bad input raises: told in one line. Anything else is a bug and comes with its traceback.
_BAD_INPUT = (ValueError, OSError, KeyError)


@dataclass(frozen=True)
class NodeSettings:
    """Parameters that every node has."""

    autostart: bool = setting(True, "configure and activate without a lifecycle manager")
    diagnostics_period: float = setting(1.0, "time between diagnostics, s", low=0.1, high=60.0)


class ManagedNode[S: NodeSettings](LifecycleNode):
    """A lifecycle node with parameters from a dataclass, a clock, diagnostics and one way to fail.

    failure: what went wrong for good, in words, or None. Set by any thread, read by `run`.
    """

    def __init__(self, name: str, settings: type[S], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.parameters: Parameters[S] = Parameters(self, settings)
        self.clock, self.stamps = node_clock(self)
        self.failure: str | None = None
        self.finished = threading.Event()
        self._entities_at_start: set[int] = {id(entity) for entity, _ in self._entities()}

    # What a subclass fills in.
    def configure(self) -> None:
        """Load and create. Raises to refuse."""

    def activate(self) -> None:
        """Start acting."""

    def deactivate(self) -> None:
        """Stop acting. Must return within a second."""

    def cleanup(self) -> None:
        """Let go of what configure() loaded; also called when configure() failed half way."""

    def interrupt(self) -> None:
        """Wake whatever blocks a callback: the process is about to end."""

    def health(self) -> tuple[str, dict[str, object]]:
        """(message, values) for diagnostics; an empty message means all is well."""
        return "", {}

    @property
    def settings(self) -> S:
        """The current parameter values."""
        return self.parameters.value

    @property
    def active(self) -> bool:
        """True between activate and deactivate."""
        return self._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE

    def fail(self, cause: str) -> None:
        """End the process with an error: the first cause given is the one that is reported."""
        if self.failure is None:
            self.failure = cause
        self.finished.set()

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """Wrap a thread's function: an exception in it ends the process by name instead of one thread."""

        def run() -> None:
            try:
                work()
            except Exception as error:
                self.fail(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")

        return run

    # The transitions.
    def on_configure(self, state: RclpyState) -> TransitionCallbackReturn:
        outcome = self._attempt("configure", self.configure)
        if outcome is not SUCCESS:
            self._release()
            return outcome
        self._diagnostics = self.create_publisher(DiagnosticArray, "diagnostics", qos.REPORT)
        self.create_timer(self.settings.diagnostics_period, self._publish_health)
        return super().on_configure(state)

    def on_activate(self, state: RclpyState) -> TransitionCallbackReturn:
        outcome = self._attempt("activate", self.activate)
        if outcome is SUCCESS:
            self.get_logger().info("active")
            return super().on_activate(state)
        return outcome

    def on_deactivate(self, state: RclpyState) -> TransitionCallbackReturn:
        outcome = self._attempt("deactivate", self.deactivate)
        return super().on_deactivate(state) if outcome is SUCCESS else outcome

    def on_cleanup(self, state: RclpyState) -> TransitionCallbackReturn:
        outcome = self._attempt("cleanup", self._release)
        return super().on_cleanup(state) if outcome is SUCCESS else outcome

    def on_shutdown(self, state: RclpyState) -> TransitionCallbackReturn:
        if state.state_id == State.PRIMARY_STATE_ACTIVE:
            self._attempt("deactivate", self.deactivate)
        if state.state_id != State.PRIMARY_STATE_UNCONFIGURED:
            self._attempt("cleanup", self._release)
        if isinstance(self.clock, RosClock):
            self.clock.close()
        self.finished.set()
        return SUCCESS

    def destroy_node(self) -> None:
        """Let go of everything, so that the others see this node leave at once.

        The state machine holds the node, and with it its process's place in the graph; rclpy leaves it to the
        collector, without which the others would wait for the lease, 20 s.
        """
        self._state_machine.destroy_when_not_in_use()
        super().destroy_node()

    def _entities(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        groups = (
            (self.timers, self.destroy_timer),
            (self.subscriptions, self.destroy_subscription),
            (self.services, self.destroy_service),
            (self.clients, self.destroy_client),
            (self.publishers, self.destroy_publisher),
        )
        return [(entity, destroy) for entities, destroy in groups for entity in entities]

    def _release(self) -> None:
        for entity, destroy in self._entities():
            if id(entity) not in self._entities_at_start:
                destroy(entity)
        self.cleanup()

    def _attempt(self, step: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except _BAD_INPUT as error:
            self._refuse(step, f"{error}")
            return FAILURE
        except Exception as error:
            self._refuse(step, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            return FAILURE
        return SUCCESS

    def _refuse(self, step: str, cause: str) -> None:
        self.get_logger().error(f"{step} failed: {cause}")
        if self.settings.autostart:
            self.fail(f"{step} failed")

    def _publish_health(self) -> None:
        message, values = self.health()
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if message else DiagnosticStatus.OK,
            name=self.get_fully_qualified_name(),
            message=message or "ok",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

"""The managed node: order of the steps, failures by name, and a thread's exception ending the process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.settings import setting

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(frozen=True)
class Settings(NodeSettings):
    depth: int = setting(1, "a depth", low=1, high=5)


class Recorder(ManagedNode[Settings]):
    """Writes down its steps and raises `error` in configure when there is one."""

    def __init__(self, **kwargs) -> None:
        self.steps: list[str] = []
        self.error: Exception | None = None
        super().__init__("recorder", Settings, **kwargs)

    def configure(self) -> None:
        self.steps.append("configure")
        self.create_publisher(String, "out", 1)
        self.create_subscription(String, "in", lambda _: None, 1)
        self.create_service(Trigger, "service", lambda _, answer: answer)
        if self.error:
            raise self.error

    def activate(self) -> None:
        self.steps.append("activate")

    def deactivate(self) -> None:
        self.steps.append("deactivate")

    def cleanup(self) -> None:
        self.steps.append("cleanup")


@pytest.fixture
def node(ros):
    made = Recorder()
    yield made
    made.destroy_node()


def test_a_whole_life_runs_every_step_in_order(node):
    assert node.trigger_configure() is SUCCESS
    assert not node.active
    assert node.trigger_activate() is SUCCESS
    assert node.active
    assert node.trigger_deactivate() is SUCCESS
    assert node.trigger_cleanup() is SUCCESS
    assert node.trigger_shutdown() is SUCCESS
    assert node.steps == ["configure", "activate", "deactivate", "cleanup"]
    assert node.failure is None


def test_shutdown_from_active_stops_acting_first(node):
    node.trigger_configure()
    node.trigger_activate()
    node.trigger_shutdown()
    assert node.steps[2:] == ["deactivate", "cleanup"]
    assert node.finished.is_set()


def entities(node) -> list[int]:
    return [len(list(kind)) for kind in (node.publishers, node.subscriptions, node.services, node.timers)]


def test_cleanup_leaves_nothing_behind_however_often(node):
    """Publishers of an earlier configure used to stay on the graph and count as a second writer."""
    at_start = entities(node)
    for _ in range(3):
        assert node.trigger_configure() is SUCCESS
        assert entities(node) == [count + more for count, more in zip(at_start, (2, 1, 1, 1), strict=True)]
        assert node.trigger_cleanup() is SUCCESS
        assert entities(node) == at_start


def test_a_refused_configure_leaves_no_entity_behind(node):
    at_start = entities(node)
    node.error = ValueError("no")
    node.trigger_configure()
    assert entities(node) == at_start


@pytest.mark.parametrize("error", [ValueError("no such model 'x'"), RuntimeError("a bug")])
def test_a_refused_configure_cleans_up_and_ends_an_autostarted_node(node, error):
    node.error = error
    assert node.trigger_configure() is FAILURE
    assert node.steps == ["configure", "cleanup"]
    assert node.failure == "configure failed"
    assert node.finished.is_set()


def test_a_refused_configure_under_a_manager_leaves_the_node_to_be_tried_again(ros):
    node = Recorder(parameter_overrides=[Parameter("autostart", value=False)])
    node.error = ValueError("no such model")
    assert node.trigger_configure() is FAILURE
    assert not node.finished.is_set()
    node.error = None
    assert node.trigger_configure() is SUCCESS
    node.destroy_node()


def test_an_exception_in_a_guarded_thread_ends_the_node_and_the_first_cause_is_told(node):
    """A control thread used to die alone, and the node looked alive and silent."""

    def break_down() -> None:
        raise ZeroDivisionError("the first")

    node.guard(break_down)()
    node.fail("the second")
    assert node.finished.is_set()
    assert "ZeroDivisionError: the first" in node.failure


def test_health_goes_out_as_diagnostics(node):
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    heard: list[DiagnosticArray] = []
    node.health = lambda: ("camera is late", {"age_ms": 700})
    node.trigger_configure()
    node._diagnostics.publish = heard.append
    node._publish_health()
    (status,) = heard[0].status
    assert (status.level, status.name) == (DiagnosticStatus.WARN, "/recorder")
    assert (status.message, status.values[0].value) == ("camera is late", "700")

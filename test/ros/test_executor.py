"""The executor of the nodes: it dispatches, from any thread's work, and ends when it is told to."""

from __future__ import annotations

import os
import threading

import pytest
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_vla_ros.bringup.client import StackClient
from wm_vla_ros.ros.executor import Executor

PATIENCE = 20.0


@pytest.fixture
def node(ros):
    made = Node("subject")
    yield made
    made.destroy_node()


@pytest.fixture
def executor(node):
    made = Executor()
    made.add_node(node)
    thread = threading.Thread(target=made.spin, daemon=True)
    thread.start()
    yield made
    assert made.shutdown(timeout_sec=PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_messages_timers_and_services_are_dispatched_in_its_thread(node, executor, monkeypatch):
    heard: list[str] = []
    called, ticked = threading.Event(), threading.Event()

    def hear(message: String) -> None:
        heard.append(message.data)
        if len(heard) == 3:
            called.set()

    def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, threading.current_thread().name
        return response

    # Made while it spins, as a node's are that is configured later.
    node.create_subscription(String, "say", hear, 10)
    node.create_service(Trigger, "ask", answer)
    node.create_timer(0.01, ticked.set)
    publisher = node.create_publisher(String, "say", 10)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(node.context.get_domain_id()))
    with StackClient() as client:
        assert client.trigger("ask") != threading.current_thread().name
    for word in ("a", "b", "c"):
        publisher.publish(String(data=word))
    assert called.wait(PATIENCE)
    assert ticked.wait(PATIENCE)
    assert heard == ["a", "b", "c"]


def test_work_that_another_thread_hands_over_is_done(executor):
    done = threading.Event()
    executor.create_task(done.set)
    assert done.wait(PATIENCE)


def test_an_error_in_a_callback_ends_it_with_that_error(node):
    def fail() -> None:
        raise ValueError("no such thing")

    executor = Executor()
    executor.add_node(node)
    node.create_timer(0.01, fail)
    with pytest.raises(ValueError, match="no such thing"):
        executor.spin()


def test_it_ends_with_its_context(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    context = Context()
    context.init()
    node = Node("subject", context=context)
    executor = Executor(context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    context.try_shutdown()
    thread.join(PATIENCE)
    assert not thread.is_alive()
